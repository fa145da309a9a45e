package main

// -demo: the gateway before the embedded server of demo.go, over real sockets
// and with real signatures, for trying it in a minute.

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
)

//go:embed config.example.json
var exampleConfig []byte

// runDemo serves until ctx is done. With an empty dir the objects live in a
// temporary folder, which is removed at the end.
func runDemo(ctx context.Context, dir string, stdout io.Writer, log *slog.Logger) error {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "s3-proxy-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		dir = temporary
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	creds := credentials{AccessKeyID: "demo", SecretAccessKey: rand.Text()}
	conf, err := demoConfig(listener.Addr().String(), creds)
	if err != nil {
		return err
	}
	backend, err := newDemoServer(dir, creds, slices.Sorted(maps.Keys(conf.buckets))...)
	if err != nil {
		return err
	}
	server := newServer(backend, log)
	go server.Serve(listener)
	defer server.Close()
	return serve(ctx, conf, launch{log: log, ready: func(addr net.Addr) { printDemo(stdout, addr.String(), dir) }})
}

// demoConfig is config.example.json with all its buckets in one account, the
// embedded server. If the port is taken, any free one will do.
func demoConfig(endpoint string, creds credentials) (*config, error) {
	file, err := decodeConfig(exampleConfig, func(string) (string, bool) { return "-", true })
	if err != nil {
		return nil, err
	}
	demo := accountFile{
		EndpointURL:     "http://" + endpoint,
		AccessKeyID:     creds.AccessKeyID,
		SecretAccessKey: creds.SecretAccessKey,
	}
	for _, a := range file.Accounts {
		demo.Buckets = append(demo.Buckets, a.Buckets...)
	}
	file.Accounts = map[string]accountFile{"demo": demo}
	conf, err := file.check(true)
	if err != nil {
		return nil, err
	}
	if probe, err := net.Listen("tcp", conf.listen); err != nil {
		conf.listen = "127.0.0.1:0"
	} else {
		probe.Close()
	}
	return conf, nil
}

func printDemo(w io.Writer, addr, dir string) {
	fmt.Fprintf(w, `The gateway listens on http://%[1]s, before an embedded S3 server that keeps
its objects in %[2]s. It is for trying things: not a place for data.

  curl -H 'x-api-key: alice-change-me-0001' -d 'hello' -X PUT http://%[1]s/photos/hello.txt
  curl -H 'x-api-key: alice-change-me-0001' http://%[1]s/photos
  curl -H 'x-api-key: eve-change-me-000003' -i http://%[1]s/photos/hello.txt

Ctrl-C ends it.
`, addr, dir)
}

var _ http.Handler = (*demoServer)(nil)
