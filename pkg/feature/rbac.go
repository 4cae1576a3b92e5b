package feature

import (
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/sluice-gateway/sluice/pkg/model"
)

// Conditions on who is calling, for Envoy's RBAC filter. What is not there meets none.

// AllOf are several conditions, all of which must hold.
func AllOf(all ...*rbacv3.Principal) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{Ids: all}}}
}

// AnyOf are several conditions, one of which must hold.
func AnyOf(any ...*rbacv3.Principal) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_OrIds{OrIds: &rbacv3.Principal_Set{Ids: any}}}
}

// Not holds where the condition does not.
func Not(p *rbacv3.Principal) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_NotId{NotId: p}}
}

// InMetadata holds where a value of the request's dynamic metadata matches.
func InMetadata(namespace string, path model.MetadataPath, v *matcherv3.ValueMatcher) *rbacv3.Principal {
	m := &matcherv3.MetadataMatcher{Filter: namespace, Value: v}
	for _, key := range path {
		m.Path = append(m.Path, &matcherv3.MetadataMatcher_PathSegment{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: key}})
	}
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_SourcedMetadata{SourcedMetadata: &rbacv3.SourcedMetadata{
		MetadataMatcher: m, MetadataSource: rbacv3.MetadataSource_DYNAMIC,
	}}}
}

// FirstInMetadata holds where the first of several places that has a value has one that matches, in one of the ways.
func FirstInMetadata(namespace string, paths []model.MetadataPath, ways ...*matcherv3.ValueMatcher) *rbacv3.Principal {
	var any, before []*rbacv3.Principal
	for _, path := range paths {
		var match []*rbacv3.Principal
		for _, v := range ways {
			match = append(match, InMetadata(namespace, path, v))
		}
		any = append(any, AllOf(append(append([]*rbacv3.Principal{}, before...), AnyOf(match...))...))
		before = append(before, Not(InMetadata(namespace, path, Present())))
	}
	return AnyOf(any...)
}

// Present matches any value.
func Present() *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_PresentMatch{PresentMatch: true}}
}

// Text matches a text.
func Text(s *matcherv3.StringMatcher) *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: s}}
}

// TextLike matches a text that a regular expression takes as a whole.
func TextLike(regex string) *matcherv3.ValueMatcher {
	return Text(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: regex}}})
}

// Exactly matches one text.
func Exactly(text string) *matcherv3.ValueMatcher {
	return Text(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: text}})
}

// Number matches one number.
func Number(n float64) *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_DoubleMatch{DoubleMatch: &matcherv3.DoubleMatcher{
		MatchPattern: &matcherv3.DoubleMatcher_Exact{Exact: n},
	}}}
}

// NumberUpTo matches numbers between minus most and most, which it does not take itself.
func NumberUpTo(most float64) *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_DoubleMatch{DoubleMatch: &matcherv3.DoubleMatcher{
		MatchPattern: &matcherv3.DoubleMatcher_Range{Range: &typev3.DoubleRange{Start: -most, End: most}},
	}}}
}

// Truth matches true, or false.
func Truth(b bool) *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_BoolMatch{BoolMatch: b}}
}

// OneIs matches a list of which one is matched.
func OneIs(v *matcherv3.ValueMatcher) *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_ListMatch{ListMatch: &matcherv3.ListMatcher{
		MatchPattern: &matcherv3.ListMatcher_OneOf{OneOf: v},
	}}}
}
