//go:build interop

package interop

import (
	"strings"
	"testing"
)

// Over TLS boto3 sends its checksums as trailers. Whatever the algorithm, the answer is
// the server's own. Where the gateway takes the trailers off, it has verified them.
func TestInteropTrailingChecksums(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		verifying := b.config()
		verifying["accounts"].(config)["backend"].(config)["trailing_checksums"] = "verify"
		direct, ca := wire(t, "http://"+b.addr, "")
		at := startBoto3(t, direct, accessKey, secretKey, "AWS_CA_BUNDLE="+ca)
		for mode, conf := range map[string]config{"forward": b.config(), "verify": verifying} {
			endpoint, ca := startGateway(t, conf).wire(t, "")
			s3 := startBoto3(t, endpoint, "alice", aliceKey, "AWS_CA_BUNDLE="+ca)
			for _, algorithm := range []string{"CRC32", "SHA1", "SHA256", "SHA512"} {
				put := arguments{"Bucket": "photos", "Key": algorithm, "Body": noise(t, 70_000), "ChecksumAlgorithm": algorithm}
				got, want := s3.call(t, "put_object", put), at.call(t, "put_object", put)
				t.Logf("%s, %s at %s: %d %s", mode, algorithm, b.name, want.Status, want.Code)
				if mode == "verify" { // the server has never seen the trailer
					if got.Status != 200 {
						t.Errorf("%s: put_object with %s = %d %s, want 200", mode, algorithm, got.Status, got.Code)
					}
					continue
				}
				header := "x-amz-checksum-" + strings.ToLower(algorithm)
				if got.Status != want.Status || got.Code != want.Code || got.Header[header] != want.Header[header] {
					t.Errorf("%s: put_object with %s = %d %s %s, the server itself says %d %s %s", mode, algorithm,
						got.Status, got.Code, got.Header[header], want.Status, want.Code, want.Header[header])
				}
			}
		}
	})
}
