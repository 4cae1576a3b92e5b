package policy

// Code names a kind of Problem; codes are stable and may be searched for and silenced.
type Code string

// The codes, each with what it means.
const (
	CodeSyntax       Code = "syntax"           // the text is not YAML, or beyond a limit
	CodeKind         Code = "unknown-kind"     // apiVersion or kind is not one of ours
	CodeField        Code = "unknown-field"    // a field that does not exist there
	CodeType         Code = "wrong-type"       // a list where a mapping is wanted, a word where a number is
	CodeValue        Code = "bad-value"        // a value outside what is allowed
	CodeRequired     Code = "missing-field"    // a field that must be there is not
	CodeDuplicate    Code = "duplicate"        // two objects or rules of one name
	CodeReference    Code = "dangling"         // a name that names nothing
	CodeCycle        Code = "cycle"            // policies that use one another in a circle
	CodeConflict     Code = "conflict"         // two things that cannot both hold
	CodeAmbiguous    Code = "ambiguous-match"  // two rules with the same host and match
	CodeUnreachable  Code = "unreachable-rule" // a rule no request can reach
	CodePlace        Code = "wrong-place"      // a block that has no effect where it stands
	CodeContent      Code = "content"          // a file a document names could not be read
	CodeRefused      Code = "refused-by-envoy" // the proof: Envoy refuses what this becomes
	CodeForeign      Code = "foreign"          // a document of another system
	CodeTooMany      Code = "too-many"         // more objects than one site may have
	CodeNotSupported Code = "not-supported"    // known, but not in this version
)

// Codes explains every code, for the reference.
func Codes() map[Code]string {
	return map[Code]string{
		CodeSyntax:       "The text is not YAML, or is beyond a limit of size or depth.",
		CodeKind:         "apiVersion or kind is not one that Sluice knows.",
		CodeField:        "A field that does not exist at this place.",
		CodeType:         "A value of another type than the field takes.",
		CodeValue:        "A value outside what the field allows.",
		CodeRequired:     "A field that must be there is missing.",
		CodeDuplicate:    "Two objects or two rules have the same name.",
		CodeReference:    "A name that names nothing.",
		CodeCycle:        "Policies use one another in a circle.",
		CodeConflict:     "Two things that cannot both hold.",
		CodeAmbiguous:    "Two rules have the same host and an equal match.",
		CodeUnreachable:  "No request can ever reach this rule.",
		CodePlace:        "A block stands where it can have no effect.",
		CodeContent:      "A file that the document names could not be read.",
		CodeRefused:      "Envoy refuses the configuration that this becomes.",
		CodeForeign:      "A document of another system, skipped.",
		CodeTooMany:      "More than one site may have.",
		CodeNotSupported: "Known, but not in this version.",
	}
}
