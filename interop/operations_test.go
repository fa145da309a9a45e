//go:build interop

package interop

import (
	"maps"
	"testing"
)

// Every operation of the table that the clients' tests do not make: the same call
// at the server itself, in a bucket of its own, says what status and code are
// right. What a server does not have, the gateway reports as the server does.
func TestInteropOperations(t *testing.T) {
	type call struct {
		name string
		more arguments
	}
	tags := arguments{"TagSet": []arguments{{"Key": "a", "Value": "b"}}}
	key := arguments{"Key": "k"}
	with := func(a, b arguments) arguments {
		a = maps.Clone(a)
		maps.Copy(a, b)
		return a
	}
	part := with(key, arguments{"PartNumber": 1, "UploadId": "00000000-0000-0000-0000-000000000000"})
	calls := []call{
		{"put_object", with(key, arguments{"Body": []byte("id,name\n1,Tom\n")})},
		{"head_bucket", nil},
		{"list_objects", nil},
		{"get_bucket_location", nil},

		// Objects.
		{"get_object_acl", key},
		{"get_object_attributes", with(key, arguments{"ObjectAttributes": []string{"ETag", "ObjectSize"}})},
		{"put_object_acl", with(key, arguments{"ACL": "private"})},
		{"get_object_legal_hold", key},
		{"put_object_legal_hold", with(key, arguments{"LegalHold": arguments{"Status": "OFF"}})},
		{"get_object_retention", key},
		{"put_object_retention", with(key, arguments{"Retention": arguments{"Mode": "GOVERNANCE", "RetainUntilDate": "2030-01-01T00:00:00Z"}})},
		{"put_object_tagging", with(key, arguments{"Tagging": tags})},
		{"get_object_tagging", key},
		{"delete_object_tagging", key},
		{"restore_object", with(key, arguments{"RestoreRequest": arguments{"Days": 1}})},
		{"head_object", with(key, arguments{"PartNumber": 1})},
		{"get_object", with(key, arguments{"VersionId": "none"})},
		{"delete_object", with(key, arguments{"VersionId": "none"})},

		// Multipart uploads that are not there.
		{"upload_part", with(part, arguments{"Body": []byte("x")})},
		{"list_parts", with(key, arguments{"UploadId": part["UploadId"]})},
		{"abort_multipart_upload", with(key, arguments{"UploadId": part["UploadId"]})},
		{"complete_multipart_upload", with(key, arguments{"UploadId": part["UploadId"],
			"MultipartUpload": arguments{"Parts": []arguments{{"PartNumber": 1, "ETag": "d41d8cd98f00b204e9800998ecf8427e"}}}})},
		{"list_multipart_uploads", nil},

		// A bucket's configuration.
		{"get_bucket_accelerate_configuration", nil},
		{"get_bucket_acl", nil},
		{"list_bucket_analytics_configurations", nil},
		{"get_bucket_cors", nil},
		{"put_bucket_cors", arguments{"CORSConfiguration": arguments{"CORSRules": []arguments{{"AllowedMethods": []string{"GET"}, "AllowedOrigins": []string{"https://a.example"}}}}}},
		{"delete_bucket_cors", nil},
		{"get_bucket_encryption", nil},
		{"list_bucket_intelligent_tiering_configurations", nil},
		{"list_bucket_inventory_configurations", nil},
		{"get_bucket_lifecycle_configuration", nil},
		{"delete_bucket_lifecycle", nil},
		{"get_bucket_logging", nil},
		{"list_bucket_metrics_configurations", nil},
		{"get_bucket_notification_configuration", nil},
		{"get_object_lock_configuration", nil},
		{"get_bucket_ownership_controls", nil},
		{"put_bucket_ownership_controls", arguments{"OwnershipControls": arguments{"Rules": []arguments{{"ObjectOwnership": "BucketOwnerPreferred"}}}}},
		{"delete_bucket_ownership_controls", nil},
		{"get_bucket_policy", nil},
		{"get_bucket_policy_status", nil},
		{"delete_bucket_policy", nil},
		{"get_public_access_block", nil},
		{"get_bucket_replication", nil},
		{"get_bucket_request_payment", nil},
		{"get_bucket_tagging", nil},
		{"put_bucket_tagging", arguments{"Tagging": tags}},
		{"get_bucket_tagging", nil},
		{"delete_bucket_tagging", nil},
		{"get_bucket_versioning", nil},
		{"put_bucket_versioning", arguments{"VersioningConfiguration": arguments{"Status": "Suspended"}}},
		{"get_bucket_website", nil},
		{"delete_object", key},
	}
	eachBackend(t, func(t *testing.T, b *backend) {
		g := startGateway(t, b.config())
		through, direct := startBoto3(t, g.url, "alice", aliceKey), b.boto3(t)
		// The same with a bucket that nobody declared, and for one who may not.
		bob := startBoto3(t, g.url, "bob", bobKey)
		succeeded := 0
		for _, c := range calls {
			got := through.call(t, c.name, with(arguments{"Bucket": "photos"}, c.more))
			want := direct.call(t, c.name, with(arguments{"Bucket": "backups"}, c.more))
			if got.Status != want.Status || got.Code != want.Code {
				t.Errorf("%s = %d %s, the server itself says %d %s", c.name, got.Status, got.Code, want.Status, want.Code)
			}
			if want.Status/100 == 2 {
				succeeded++
			}
			if r := bob.call(t, c.name, with(arguments{"Bucket": "backups"}, c.more)); r.Status != 403 {
				t.Errorf("%s in a bucket that is not allowed = %d %s, want 403", c.name, r.Status, r.Code)
			}
		}
		t.Logf("%d calls, of which %s takes %d", len(calls), b.name, succeeded)
	})
}
