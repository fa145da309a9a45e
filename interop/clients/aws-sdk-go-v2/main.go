//go:build ignore

// Does a job with the AWS SDK for Go, version 2, for interop_programs_test.go, and
// writes a line of JSON for each step of it:
//
//	{"step": "a range", "result": "206, 10 bytes, sha256 …"}
//	{"step": "a range", "error": "416 InvalidRange"}
//
// The environment says where to: S3_ENDPOINT, and the AWS_… variables that the SDK
// reads itself. interop/install builds it, in a module of its own; the constraint
// keeps it out of this one.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

const mib = 1 << 20

var (
	bucket = aws.String("photos")
	out    = json.NewEncoder(os.Stdout)
	ctx    = context.Background()
)

func main() {
	settings, err := config.LoadDefaultConfig(ctx, config.WithRetryMaxAttempts(1))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	client := s3.NewFromConfig(settings, func(o *s3.Options) {
		o.BaseEndpoint = aws.String(os.Getenv("S3_ENDPOINT"))
		o.UsePathStyle = true
	})
	j := job{client, noise(12*mib + 345)}
	step("HeadBucket, CreateBucket", j.start)
	step("PutObject of a stream", j.putStream)
	step("user metadata", j.metadata)
	for _, algorithm := range []types.ChecksumAlgorithm{"CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512"} {
		step("checksum "+string(algorithm), func() (string, error) { return j.checksum(algorithm) })
	}
	step("GetObject of a range", j.getRange)
	step("GetObjectAttributes", j.attributes)
	step("manager.Uploader, multipart", j.uploader)
	step("manager.Uploader, SHA256 of each part", j.uploaderChecksum)
	step("manager.Downloader", j.downloader)
	step("presigned PUT, GET, HEAD", j.presigned)
	step("If-None-Match, If-Match", j.conditions)
	step("ListObjectsV2 in pages", j.paginators)
	step("ListMultipartUploads, ListParts in pages", j.uploads)
	step("CopyObject", j.copyObject)
	step("DeleteObjects", j.deleteObjects)
}

// step runs one and writes down what came of it.
func step(name string, run func() (string, error)) {
	line := map[string]string{"step": name}
	result, err := run()
	if err != nil {
		line["error"] = short(err)
	} else {
		line["result"] = result
	}
	out.Encode(line)
}

// short is the status and the code of an error, which are the same from one place
// to another.
func short(err error) string {
	var answer *awshttp.ResponseError
	var api smithy.APIError
	if errors.As(err, &answer) && errors.As(err, &api) {
		return fmt.Sprintf("%d %s", answer.HTTPStatusCode(), api.ErrorCode())
	}
	return err.Error()
}

func noise(size int) []byte {
	content := make([]byte, 0, size+sha256.Size)
	for sum := sha256.Sum256(nil); len(content) < size; sum = sha256.Sum256(sum[:]) {
		content = append(content, sum[:]...)
	}
	return content[:size]
}

func sum(content []byte) string { return fmt.Sprintf("sha256 %x", sha256.Sum256(content)) }

// stream hides what a reader can do besides reading.
func stream(content []byte) io.Reader { return io.MultiReader(bytes.NewReader(content)) }

type job struct {
	*s3.Client
	content []byte
}

func (j job) start() (string, error) {
	if _, err := j.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: bucket}); err != nil {
		return "", err
	}
	// For one that is there and the caller's own: a success with an error's code.
	_, err := j.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket})
	var owned *types.BucketAlreadyOwnedByYou
	if errors.As(err, &owned) {
		return short(err), nil
	}
	return "", err
}

func (j job) putStream() (string, error) {
	put, err := j.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("dir/a +ü&.bin"), Body: stream(j.content[:2*mib]),
		ContentLength: aws.Int64(2 * mib), ContentType: aws.String("image/x-noise"), CacheControl: aws.String("max-age=60")})
	if err != nil {
		return "", err
	}
	got, content, err := j.get("dir/a +ü&.bin", "")
	if err != nil {
		return "", err
	}
	return fmt.Sprint(str(put.ETag), str(put.ChecksumCRC32), str(got.ContentType), str(got.CacheControl), content), nil
}

func (j job) get(key, byteRange string) (*s3.GetObjectOutput, string, error) {
	in := &s3.GetObjectInput{Bucket: bucket, Key: aws.String(key), ChecksumMode: types.ChecksumModeEnabled}
	if byteRange != "" {
		in.Range = aws.String(byteRange)
		in.ChecksumMode = ""
	}
	got, err := j.GetObject(ctx, in)
	if err != nil {
		return nil, "", err
	}
	content, err := io.ReadAll(got.Body)
	if err != nil {
		return nil, "", err
	}
	return got, fmt.Sprintf("%d bytes, %s", len(content), sum(content)), nil
}

func (j job) metadata() (string, error) {
	_, err := j.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("metadata"), Body: strings.NewReader("x"),
		Metadata: map[string]string{"colour": "blue", "realm_id": "2", "a.b": "c  d"}})
	if err != nil {
		return "", err
	}
	head, err := j.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("metadata")})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%v %s", head.Metadata, str(head.ContentType)), nil
}

// checksum uploads with a checksum in a trailer or header; GetObject verifies it.
func (j job) checksum(algorithm types.ChecksumAlgorithm) (string, error) {
	key := "checksum-" + string(algorithm)
	put, err := j.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: bytes.NewReader(j.content[:70_000]), ChecksumAlgorithm: algorithm})
	if err != nil {
		return "", err
	}
	got, content, err := j.get(key, "")
	if err != nil {
		return "", err
	}
	sums := func(values ...*string) (s string) {
		for _, value := range values {
			s += str(value)
		}
		return s
	}
	return fmt.Sprint(sums(put.ChecksumCRC32, put.ChecksumCRC32C, put.ChecksumCRC64NVME, put.ChecksumSHA1, put.ChecksumSHA256),
		sums(got.ChecksumCRC32, got.ChecksumCRC32C, got.ChecksumCRC64NVME, got.ChecksumSHA1, got.ChecksumSHA256), content), nil
}

func (j job) getRange() (string, error) {
	got, content, err := j.get("dir/a +ü&.bin", "bytes=1000000-1000009")
	if err != nil {
		return "", err
	}
	if want := fmt.Sprintf("10 bytes, %s", sum(j.content[1000000:1000010])); content != want {
		return "", fmt.Errorf("got %s, want %s", content, want)
	}
	return str(got.ContentRange), nil
}

// attributes asks for five, which this SDK sends as five lines of one header.
func (j job) attributes() (string, error) {
	a, err := j.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: bucket, Key: aws.String("dir/a +ü&.bin"),
		ObjectAttributes: types.ObjectAttributes("").Values()})
	if err != nil {
		return "", err
	}
	sum := ""
	if a.Checksum != nil {
		sum = str(a.Checksum.ChecksumCRC32)
	}
	return fmt.Sprintf("%s %d %s %s", str(a.ETag), aws.ToInt64(a.ObjectSize), a.StorageClass, sum), nil
}

func (j job) upload(key string, algorithm types.ChecksumAlgorithm) (string, error) {
	uploader := manager.NewUploader(j.Client, func(u *manager.Uploader) { u.PartSize = 5 * mib })
	_, err := uploader.Upload(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: stream(j.content), ChecksumAlgorithm: algorithm})
	if err != nil {
		return "", err
	}
	got, content, err := j.get(key, "")
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(content, sum(j.content)) {
		return "", fmt.Errorf("other bytes: %s", content)
	}
	return fmt.Sprint(str(got.ETag), got.ChecksumType, str(got.ChecksumCRC32), str(got.ChecksumSHA256), content), nil
}

func (j job) uploader() (string, error) { return j.upload("large", "") }

func (j job) uploaderChecksum() (string, error) {
	return j.upload("large-sha256", types.ChecksumAlgorithmSha256)
}

func (j job) downloader() (string, error) {
	downloader := manager.NewDownloader(j.Client, func(d *manager.Downloader) { d.PartSize = 5 * mib })
	buffer := manager.NewWriteAtBuffer(nil)
	n, err := downloader.Download(ctx, buffer, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("large")})
	if err != nil {
		return "", err
	}
	if !bytes.Equal(buffer.Bytes(), j.content) {
		return "", errors.New("other bytes")
	}
	return fmt.Sprint(n), nil
}

// presigned hands the URLs to net/http, with the headers that were signed.
func (j job) presigned() (string, error) {
	presign := s3.NewPresignClient(j.Client, s3.WithPresignExpires(time.Minute))
	put, err := presign.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("pre signed+ü"), ContentType: aws.String("text/x-presigned")})
	if err != nil {
		return "", err
	}
	get, err := presign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("pre signed+ü"), ResponseContentDisposition: aws.String("attachment")})
	if err != nil {
		return "", err
	}
	head, err := presign.PresignHeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("pre signed+ü")})
	if err != nil {
		return "", err
	}
	var results []string
	for _, signed := range []struct {
		method, url string
		header      http.Header
	}{{"PUT", put.URL, put.SignedHeader}, {"GET", get.URL, get.SignedHeader}, {"HEAD", head.URL, head.SignedHeader}, {"DELETE", get.URL, nil}} {
		var body io.Reader
		if signed.method == "PUT" {
			body = strings.NewReader("presigned")
		}
		req, err := http.NewRequest(signed.method, signed.url, body)
		if err != nil {
			return "", err
		}
		for name, values := range signed.header {
			req.Header[name] = values
		}
		resp, err := j.Options().HTTPClient.Do(req)
		if err != nil {
			return "", err
		}
		content, err := io.ReadAll(resp.Body)
		if err != nil {
			return "", err
		}
		if resp.StatusCode >= 300 {
			content = nil
		}
		results = append(results, fmt.Sprintf("%s %d %s %q %q", signed.method, resp.StatusCode, content,
			resp.Header.Get("Content-Type"), resp.Header.Get("Content-Disposition")))
		if signed.method != "DELETE" && resp.StatusCode != 200 {
			return "", errors.New(strings.Join(results, ", "))
		}
	}
	// Errors are XML from one place and JSON from the other: their types are not compared.
	results[3] = strings.Join(strings.Fields(results[3])[:2], " ")
	return strings.Join(results, ", "), nil
}

// conditions creates an object once, and replaces it once.
func (j job) conditions() (string, error) {
	create := func() error {
		_, err := j.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("once"), Body: strings.NewReader("1"), IfNoneMatch: aws.String("*")})
		return err
	}
	if err := create(); err != nil {
		return "", err
	}
	second := create()
	if second == nil {
		return "", errors.New("created twice")
	}
	head, err := j.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("once")})
	if err != nil {
		return "", err
	}
	replace := func() error {
		_, err := j.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("once"), Body: strings.NewReader("22"), IfMatch: head.ETag})
		return err
	}
	if err := replace(); err != nil {
		return "", err
	}
	third := replace()
	if third == nil {
		return "", errors.New("replaced twice")
	}
	return short(second) + ", " + short(third), nil
}

// paginators lists seven objects and three uploads, two or three at a time.
func (j job) paginators() (string, error) {
	for i := range 7 {
		if _, err := j.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String(fmt.Sprintf("many/%d ü+/x", i)), Body: strings.NewReader("x")}); err != nil {
			return "", err
		}
	}
	var pages []string
	objects := s3.NewListObjectsV2Paginator(j, &s3.ListObjectsV2Input{Bucket: bucket, Prefix: aws.String("many/"), MaxKeys: aws.Int32(3)})
	for objects.HasMorePages() {
		page, err := objects.NextPage(ctx)
		if err != nil {
			return "", err
		}
		var keys []string
		for _, object := range page.Contents {
			keys = append(keys, fmt.Sprintf("%s %d %s", *object.Key, *object.Size, str(object.ETag)))
		}
		pages = append(pages, strings.Join(keys, ", "))
	}
	folders := s3.NewListObjectsV2Paginator(j, &s3.ListObjectsV2Input{Bucket: bucket, Prefix: aws.String("many/"), Delimiter: aws.String("/"), MaxKeys: aws.Int32(2)})
	for folders.HasMorePages() {
		page, err := folders.NextPage(ctx)
		if err != nil {
			return "", err
		}
		var prefixes []string
		for _, p := range page.CommonPrefixes {
			prefixes = append(prefixes, *p.Prefix)
		}
		pages = append(pages, strings.Join(prefixes, ", "))
	}
	return strings.Join(pages, "; "), nil
}

// uploads begins two uploads of one key, of two parts each, finds them and aborts them.
func (j job) uploads() (string, error) {
	var found []string
	var ids []*string
	// MinIO lists the uploads of a key only by its whole name.
	key := aws.String("unfinished ü+")
	for range 2 {
		upload, err := j.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
		if err != nil {
			return "", err
		}
		for part := range int32(2) {
			if _, err := j.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: upload.UploadId, PartNumber: aws.Int32(part + 1), Body: strings.NewReader("part")}); err != nil {
				return "", err
			}
		}
	}
	uploads := s3.NewListMultipartUploadsPaginator(j, &s3.ListMultipartUploadsInput{Bucket: bucket, Prefix: key, MaxUploads: aws.Int32(1)})
	for uploads.HasMorePages() {
		page, err := uploads.NextPage(ctx)
		if err != nil {
			return "", err
		}
		for _, upload := range page.Uploads {
			parts := s3.NewListPartsPaginator(j, &s3.ListPartsInput{Bucket: bucket, Key: key, UploadId: upload.UploadId, MaxParts: aws.Int32(1)})
			for parts.HasMorePages() {
				page, err := parts.NextPage(ctx)
				if err != nil {
					return "", err
				}
				for _, part := range page.Parts {
					found = append(found, fmt.Sprintf("%s %d %s", *upload.Key, *part.PartNumber, str(part.ETag)))
				}
			}
			ids = append(ids, upload.UploadId)
		}
	}
	for _, id := range ids {
		if _, err := j.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: key, UploadId: id}); err != nil {
			return "", err
		}
	}
	slices.Sort(found)
	return strings.Join(found, ", "), nil
}

func (j job) copyObject() (string, error) {
	copied, err := j.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String("backups"), Key: aws.String("copy ü"), CopySource: aws.String("photos/dir/a%20%2B%C3%BC%26.bin")})
	if err != nil {
		return "", err
	}
	return str(copied.CopyObjectResult.ETag), nil
}

func (j job) deleteObjects() (string, error) {
	var objects []types.ObjectIdentifier
	for i := range 7 {
		objects = append(objects, types.ObjectIdentifier{Key: aws.String(fmt.Sprintf("many/%d ü+/x", i))})
	}
	objects = append(objects, types.ObjectIdentifier{Key: aws.String("never/was")})
	deleted, err := j.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: objects}})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d deleted, %d errors", len(deleted.Deleted), len(deleted.Errors)), nil
}

// str shows a field with what tells nothing from the empty string.
func str(s *string) string {
	if s == nil {
		return "- "
	}
	return fmt.Sprintf("%q ", *s)
}
