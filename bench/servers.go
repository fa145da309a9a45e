package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// serveBackend is a server of files, so that the kernel sends what is read, which
// throws away what is written, and has one list of 1,000 keys.
func serveBackend(addr, dir string) error {
	for name, size := range map[string]int64{"4k": 4 << 10, "1m": 1 << 20, "256m": 256 << 20} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := f.Truncate(size); err != nil {
			return err
		}
		f.Close()
	}
	list := listDocument()
	return http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			io.Copy(io.Discard, r.Body)
			w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
		case r.URL.Query().Has("list-type"):
			w.Header().Set("Content-Type", "application/xml")
			w.Header().Set("Content-Length", strconv.Itoa(len(list)))
			w.Write(list)
		default:
			f, err := os.Open(filepath.Join(dir, filepath.Base(r.URL.Path)))
			if err != nil {
				http.NotFound(w, r)
				return
			}
			defer f.Close()
			w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeContent(w, r, "", time.Unix(1700000000, 0), f)
		}
	}))
}

func listDocument() []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` +
		`<Name>photos</Name><Prefix></Prefix><KeyCount>1000</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>`)
	for i := range 1000 {
		fmt.Fprintf(&b, `<Contents><Key>2026/%02d/photo-%06d.jpg</Key><LastModified>2026-11-23T12:00:00.000Z</LastModified>`+
			`<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>`, i%12+1, i, i*1000)
	}
	b.WriteString(`</ListBucketResult>`)
	return b.Bytes()
}

// serveReverseProxy is the standard library's proxy, with nothing but a pool of
// connections that is large enough.
func serveReverseProxy(addr, upstream string) error {
	u, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	transport.DisableCompression = true
	return http.ListenAndServe(addr, &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport: transport,
	})
}

// chart draws the CPU of each contender as bars, in SVG.
func chart(results []*result) []byte {
	const width, bar, left = 760, 18, 330
	var b strings.Builder
	y := 30
	var rows strings.Builder
	for i, r := range results {
		if r.Contender == "direct" {
			continue
		}
		if i == 0 || results[i-1].Work != r.Work {
			y += 10
			fmt.Fprintf(&rows, `<text x="10" y="%d" font-weight="bold">%s (%s)</text>`+"\n", y+13, r.Work, r.Unit)
		}
		longest := 0.0
		for _, other := range results {
			if other.Work == r.Work {
				longest = max(longest, other.CPU)
			}
		}
		color := "#9aa5b1"
		if r.Contender == "s3-proxy" {
			color = "#1f6feb"
		}
		length := int((width - left - 80) * r.CPU / max(longest, 1e-9))
		fmt.Fprintf(&rows, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%d" height="%d" fill="%s"/><text x="%d" y="%d">%.3g</text>`+"\n",
			left-8, y+13, r.Contender, left, y, length, bar-4, color, left+length+6, y+13, r.CPU)
		y += bar
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, y+20)
	fmt.Fprintf(&b, `<text x="10" y="20" font-size="14">CPU of the proxy process (less is better)</text>`+"\n%s</svg>\n", rows.String())
	return []byte(b.String())
}
