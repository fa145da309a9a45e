//go:build linux

package main

// How the proxies are configured: each as its manual says for a plain proxy that
// keeps its connections to the backends, with one process.

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A limit that is counted and never reached, by all users together. It isn't higher
// than that, for the gateway has 8 bytes for each request that a user may send.
const (
	limitOfAll     = 100000 // requests in a second
	limitOfAnybody = 100    // at least
)

// gatewayConfig is a configuration of the gateway with so many users that have a
// bucket each.
func (s *site) gatewayConfig(addr, admin string, users int) map[string]any {
	fileBuckets := []string{"photos"}
	limit := func(requests int) map[string]any { return map[string]any{"requests": requests, "window_seconds": 1} }
	all := map[string]any{"bench": map[string]any{"api_key": benchKey, "role": "admin", "allowed_buckets": []string{"*"}}}
	for i := range users {
		fileBuckets = append(fileBuckets, bucketName(i))
		all[fmt.Sprintf("user-%d", i)] = map[string]any{"api_key": userKey(i), "role": "user", "allowed_buckets": []string{bucketName(i)}, "rate_limit": limit(max(limitOfAll/users, limitOfAnybody))}
	}
	account := func(endpoint string, buckets ...string) map[string]any {
		return map[string]any{"endpoint_url": endpoint, "access_key_id": "bench", "secret_access_key": "bench", "buckets": buckets}
	}
	secure := account("https://"+s.secure, "vault")
	secure["ca_file"] = filepath.Join(s.dir, certFile)
	return map[string]any{
		"server": map[string]any{"port": portOf(addr), "admin": map[string]any{"port": portOf(admin)}},
		"accounts": map[string]any{
			"files":  account("http://"+s.files, fileBuckets...),
			"sink":   account("http://"+s.sink, "uploads", "million"),
			"secure": secure,
			"stuck":  account("http://"+s.stuck, "stuck"),
		},
		"users":         all,
		"max_file_size": int64(1) << 40,
		"rate_limit":    limit(limitOfAll),
	}
}

func bucketName(i int) string { return fmt.Sprintf("bucket-%d", i) }

func userKey(i int) string { return fmt.Sprintf("bench-key-of-user-%d", i) }

func portOf(addr string) int {
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	return n
}

// writeConfig writes the configuration of another program, and returns its path.
func (s *site) writeConfig(name, addr, config string) (string, error) {
	file := filepath.Join(s.dir, name+".conf")
	config = strings.NewReplacer("@FILE@", file, "@DIR@", s.dir, "@ADDR@", addr, "@CERT@", filepath.Join(s.dir, certFile),
		"@FILES@", s.files, "@SINK@", s.sink, "@SECURE@", s.secure).Replace(config)
	return file, os.WriteFile(file, []byte(config), 0o600)
}

// nginxStart is what both of its configurations begin with: one process, and all
// files in one place.
const nginxStart = `daemon off; master_process off; worker_processes 1; pid @FILE@.pid; error_log stderr;
events { worker_connections 4096; }
http {
  keepalive_requests 1000000000; client_max_body_size 0;
  client_body_temp_path @FILE@.1; proxy_temp_path @FILE@.2; fastcgi_temp_path @FILE@.3; uwsgi_temp_path @FILE@.4; scgi_temp_path @FILE@.5;
`

// nginxFiles is the backend. Whatever the bucket, the key is the file.
const nginxFiles = nginxStart + `  access_log off; sendfile on; tcp_nopush on; open_file_cache max=16;
  default_type application/octet-stream;
  server { listen @ADDR@; root @DIR@; location / { rewrite ^/[^/]+(/.*)$ $1 break; } }
}
`

// nginxProxy has an access log, as the gateway has.
const nginxProxy = nginxStart + `  access_log @FILE@.access; proxy_max_temp_file_size 0;
  upstream files { server @FILES@; keepalive 64; keepalive_requests 1000000000; }
  upstream sink { server @SINK@; keepalive 64; keepalive_requests 1000000000; }
  upstream secure { server @SECURE@; keepalive 64; keepalive_requests 1000000000; }
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off;
  proxy_ssl_trusted_certificate @CERT@; proxy_ssl_verify on; proxy_ssl_name localhost;
  server {
    listen @ADDR@;
    location / { proxy_pass http://files; }
    location /uploads { proxy_pass http://sink; }
    location /vault { proxy_pass https://secure; }
  }
}
`

const haproxyConfig = `defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend front
  bind @ADDR@
  use_backend sink if { path_beg /uploads }
  use_backend secure if { path_beg /vault }
  default_backend files
backend files
  http-reuse always
  server s @FILES@
backend sink
  http-reuse always
  server s @SINK@
backend secure
  http-reuse always
  server s @SECURE@ ssl verify none
`
