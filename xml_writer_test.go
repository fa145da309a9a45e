package main

import "testing"

// Elements are written with what is known below them: keys encoded if the client asked
// for that, and instants as S3 writes them.
func TestAnswerWriterAppendsWhatIsKnown(t *testing.T) {
	root := xmlAnswer("ListBucketResult(Size Prefix Contents(Key LastModified ETag) NextContinuationToken CommonPrefixes(Prefix))").forms[0].root
	contents := branch("Contents", leaf("Key", "a b/<+>"), leaf("LastModified", "2026-01-02T03:04:05Z"), leaf("ETag", `"e"`))
	for _, test := range []struct {
		in        element
		encodeURL bool
		want      string
	}{
		{leaf("Size", "0"), false, "<Size>0</Size>"},
		{leaf("Prefix", ""), true, "<Prefix></Prefix>"},
		{branch("CommonPrefixes", leaf("Prefix", "p/"), leaf("Host", "x")), false, "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>"},
		{contents, false, "<Contents><Key>a b/&lt;+&gt;</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&#34;e&#34;</ETag></Contents>"},
		{contents, true, "<Contents><Key>a%20b/%3C%2B%3E</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&#34;e&#34;</ETag></Contents>"},
		// Tokens are not encoded: the client sends them back as they are.
		{leaf("NextContinuationToken", "a b+"), true, "<NextContinuationToken>a b+</NextContinuationToken>"},
		{branch("CommonPrefixes", leaf("Prefix", "é/")), true, "<CommonPrefixes><Prefix>%C3%A9/</Prefix></CommonPrefixes>"},
	} {
		w := &answerWriter{encodeURL: test.encodeURL}
		if got := string(w.append(nil, &test.in, root.child(test.in.name, new(int)))); got != test.want {
			t.Errorf("append(%+v), encoded %t = %s, want %s", test.in, test.encodeURL, got, test.want)
		}
	}
}
