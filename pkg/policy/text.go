package policy

// Text is the place of the whole of a text that is no document of the language, such as a file of settings, for Decode
// to read. An empty text is nowhere; what is no YAML is a Problem.
func Text(file, text string, p *Problems) At {
	d := newDocument(Object{Text: text, File: file, Line: 1})
	root, err := parseNode(text)
	if err != nil {
		p.Add(d.syntaxProblem(err))
		return At{}
	}
	d.root = root
	return d.At()
}
