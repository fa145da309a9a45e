//go:build linux

package main

// The servers that bench has built in, each in a process of its own: the backend, the
// bare ReverseProxy and the floor. They are this program, started with serveArgument.

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	serveArgument = "serve"

	pageKeys = 1000 // in a page of a listing
	allPages = 1000 // of the listing of the bucket "million"
	heldBack = time.Second

	floorSize = 4 << 10 // bytes
)

// serve runs one of the servers and does not return but with an error.
func serve(name string, args []string) error {
	switch {
	case name == "backend" && len(args) == 3:
		return serveBackend(args[0], args[1], args[2])
	case name == "floor" && len(args) == 1:
		return serveFloor(args[0])
	case name == "reverseproxy" && len(args) == 5:
		return serveReverseProxy(args[0], args[1], args[2], args[3], args[4])
	}
	return errors.New("bench starts its servers itself")
}

// serveBackend serves the files in dir at addr, and with TLS at addrTLS. Whatever
// the bucket, the key is the file. It throws away what is written.
func serveBackend(addr, addrTLS, dir string) error {
	list := listPage(0, false)
	pieces := sync.Pool{New: func() any { return new([pieceSize]byte) }}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			piece := pieces.Get().(*[pieceSize]byte)
			defer pieces.Put(piece)
			// Discard has a ReadFrom with a small buffer of its own: it is hidden.
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, piece[:]); err != nil {
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
		case strings.Trim(r.URL.Path, "/") == "million":
			page, _ := strconv.Atoi(r.URL.Query().Get("continuation-token"))
			if page == 1 {
				time.Sleep(heldBack)
			}
			writeList(w, listPage(page, page+1 < allPages))
		case r.URL.Query().Has("list-type"):
			writeList(w, list)
		default:
			f, err := os.Open(filepath.Join(dir, path.Base(r.URL.Path)))
			if err != nil {
				http.NotFound(w, r)
				return
			}
			defer f.Close()
			w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeContent(w, r, "", time.Unix(1700000000, 0), f)
		}
	})
	failed := make(chan error)
	go func() { failed <- http.ListenAndServe(addr, handler) }()
	go func() {
		// S3 services speak HTTP/1.1, so nobody is offered HTTP/2.
		secure := &http.Server{Addr: addrTLS, Handler: handler, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
		failed <- secure.ListenAndServeTLS(filepath.Join(dir, certFile), filepath.Join(dir, keyFile))
	}()
	return <-failed
}

func writeList(w http.ResponseWriter, list []byte) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(list)))
	w.Write(list)
}

// listPage is a page of a listing. The token of the next is its number.
func listPage(page int, more bool) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`+
		`<Name>photos</Name><Prefix></Prefix><KeyCount>%d</KeyCount><MaxKeys>%d</MaxKeys><EncodingType>url</EncodingType><IsTruncated>%t</IsTruncated>`, pageKeys, pageKeys, more)
	if more {
		fmt.Fprintf(&b, `<NextContinuationToken>%d</NextContinuationToken>`, page+1)
	}
	for i := range pageKeys {
		fmt.Fprintf(&b, `<Contents><Key>2026/%04d/photo-%06d.jpg</Key><LastModified>2026-11-23T12:00:00.000Z</LastModified>`+
			`<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>`, page, i, i*1000)
	}
	b.WriteString(`</ListBucketResult>`)
	return b.Bytes()
}

// serveFloor answers from memory, with net/http and nothing else: 4 KiB to a GET, and to
// a PUT when its body has been read. No proxy that is built on net/http can cost less.
func serveFloor(addr string) error {
	object := bytes.Repeat([]byte("s3-proxy"), floorSize/8)
	length := []string{strconv.Itoa(floorSize)}
	return http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			io.Copy(io.Discard, r.Body)
			return
		}
		w.Header()["Content-Length"] = length
		w.Write(object)
	}))
}

// A bufferPool lends the buffers through which a ReverseProxy copies bodies. Without one
// it allocates 32 KiB for each answer.
type bufferPool struct{ pool sync.Pool }

func newBufferPool() *bufferPool {
	return &bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}}
}

// Get implements httputil.BufferPool.
func (p *bufferPool) Get() []byte { return p.pool.Get().(*[32 << 10]byte)[:] }

// Put implements httputil.BufferPool.
func (p *bufferPool) Put(b []byte) { p.pool.Put((*[32 << 10]byte)(b)) }

// serveReverseProxy is the standard library's proxy as its documentation has it: with a
// pool of buffers, and a pool of connections that is large enough. It sends the buckets "uploads" and "vault" to
// backends of their own, as all proxies here do.
func serveReverseProxy(addr, files, sink, secure, dir string) error {
	pem, err := os.ReadFile(filepath.Join(dir, certFile))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	transport.DisableCompression = true
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	toFiles := &url.URL{Scheme: "http", Host: files}
	toSink := &url.URL{Scheme: "http", Host: sink}
	toSecure := &url.URL{Scheme: "https", Host: secure}
	return http.ListenAndServe(addr, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			switch {
			case strings.HasPrefix(r.In.URL.Path, "/uploads"):
				r.SetURL(toSink)
			case strings.HasPrefix(r.In.URL.Path, "/vault"):
				r.SetURL(toSecure)
			default:
				r.SetURL(toFiles)
			}
		},
		Transport:  transport,
		BufferPool: newBufferPool(),
	})
}
