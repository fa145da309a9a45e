//go:build ignore

// Does a job with minio-go, as aws-sdk-go-v2/main.go does with that SDK.
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
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/tags"
)

const (
	mib    = 1 << 20
	bucket = "photos"
)

var (
	out = json.NewEncoder(os.Stdout)
	ctx = context.Background()
)

func main() {
	endpoint, err := url.Parse(os.Getenv("S3_ENDPOINT"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds:        credentials.NewStaticV4(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), ""),
		Secure:       endpoint.Scheme == "https",
		BucketLookup: minio.BucketLookupPath,
		MaxRetries:   1,
		// Without it checksums are sent in headers, and those of an upload in parts are
		// not what the server expects.
		TrailingHeaders: true,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	j := job{client, noise(12*mib + 345)}
	step("BucketExists, MakeBucket", j.start)
	step("PutObject", j.put)
	step("PutObject of unknown length, multipart", j.putUnknown)
	step("PutObject, multipart, SHA256", j.putChecksum)
	step("ReadAt", j.readAt)
	step("StatObject", j.stat)
	step("ListObjects with metadata", j.list)
	step("ListIncompleteUploads", j.incomplete)
	step("presigned PUT, GET, HEAD", j.presigned)
	step("SetMatchETagExcept", j.once)
	step("CopyObject, ComposeObject", j.copyObject)
	step("PutObjectTagging", j.tagging)
	step("GetBucketLifecycle", j.lifecycle)
	step("GetBucketVersioning, GetObjectLockConfig, GetBucketEncryption", j.questions)
	step("RemoveObjects", j.remove)
}

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

func short(err error) string {
	var answer minio.ErrorResponse
	if errors.As(err, &answer) {
		return fmt.Sprintf("%d %s", answer.StatusCode, answer.Code)
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

type job struct {
	*minio.Client
	content []byte
}

func (j job) start() (string, error) {
	found, err := j.BucketExists(ctx, bucket)
	if err != nil {
		return "", err
	}
	// For one that is there and the caller's own: a success with an error's code.
	err = j.MakeBucket(ctx, bucket, minio.MakeBucketOptions{})
	if minio.ToErrorResponse(err).Code != "BucketAlreadyOwnedByYou" {
		return "", err
	}
	return fmt.Sprintf("%t, %s", found, short(err)), nil
}

func (j job) put() (string, error) {
	put, err := j.PutObject(ctx, bucket, "dir/a +ü&.bin", bytes.NewReader(j.content[:2*mib]), 2*mib, minio.PutObjectOptions{
		ContentType: "image/x-noise", CacheControl: "max-age=60", UserMetadata: map[string]string{"colour": "blue", "realm_id": "2"}, UserTags: map[string]string{"a": "b c"}})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d %s", put.ETag, put.Size, put.ChecksumCRC32C), nil
}

func (j job) putUnknown() (string, error) {
	put, err := j.PutObject(ctx, bucket, "large", io.MultiReader(bytes.NewReader(j.content)), -1, minio.PutObjectOptions{PartSize: 5 * mib})
	if err != nil {
		return "", err
	}
	return j.same("large", put)
}

func (j job) putChecksum() (string, error) {
	put, err := j.PutObject(ctx, bucket, "large-sha256", bytes.NewReader(j.content), int64(len(j.content)), minio.PutObjectOptions{PartSize: 5 * mib, Checksum: minio.ChecksumSHA256})
	if err != nil {
		return "", err
	}
	return j.same("large-sha256", put)
}

func (j job) same(key string, put minio.UploadInfo) (string, error) {
	object, err := j.GetObject(ctx, bucket, key, minio.GetObjectOptions{Checksum: true})
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(object)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(content, j.content) {
		return "", fmt.Errorf("%d other bytes", len(content))
	}
	return fmt.Sprintf("%s %s %s", put.ETag, put.ChecksumCRC32C, put.ChecksumSHA256), nil
}

func (j job) readAt() (string, error) {
	object, err := j.GetObject(ctx, bucket, "large", minio.GetObjectOptions{})
	if err != nil {
		return "", err
	}
	defer object.Close()
	for _, offset := range []int64{10_000_000, 5, int64(len(j.content)) - 3} {
		piece := make([]byte, 1000)
		n, err := object.ReadAt(piece, offset)
		if err != nil && err != io.EOF {
			return "", err
		}
		if want := j.content[offset:min(offset+1000, int64(len(j.content)))]; !bytes.Equal(piece[:n], want) {
			return "", fmt.Errorf("at %d: other bytes", offset)
		}
	}
	return "three places", nil
}

func (j job) stat() (string, error) {
	info, err := j.StatObject(ctx, bucket, "dir/a +ü&.bin", minio.StatObjectOptions{})
	if err != nil {
		return "", err
	}
	_, missing := j.StatObject(ctx, bucket, "nowhere", minio.StatObjectOptions{})
	return fmt.Sprintf("%s %d %s %v %d tags, %s; missing: %s", info.ETag, info.Size, info.ContentType, info.UserMetadata, info.UserTagCount,
		info.Metadata.Get("Cache-Control"), short(missing)), nil
}

// list asks for metadata, which MinIO's servers add to a list and S3 does not.
func (j job) list() (string, error) {
	var found []string
	for object := range j.ListObjects(ctx, bucket, minio.ListObjectsOptions{WithMetadata: true, Recursive: true, MaxKeys: 2}) {
		if object.Err != nil {
			return "", object.Err
		}
		found = append(found, fmt.Sprintf("%s %d %s", object.Key, object.Size, object.ETag))
	}
	for object := range j.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: "d"}) {
		if object.Err != nil {
			return "", object.Err
		}
		found = append(found, object.Key)
	}
	for object := range j.ListObjects(ctx, bucket, minio.ListObjectsOptions{UseV1: true, Recursive: true, MaxKeys: 2}) {
		if object.Err != nil {
			return "", object.Err
		}
		found = append(found, object.Key)
	}
	return strings.Join(found, ", "), nil
}

func (j job) incomplete() (string, error) {
	core := minio.Core{Client: j.Client}
	id, err := core.NewMultipartUpload(ctx, bucket, "unfinished", minio.PutObjectOptions{})
	if err != nil {
		return "", err
	}
	if _, err := core.PutObjectPart(ctx, bucket, "unfinished", id, 1, strings.NewReader("part"), 4, minio.PutObjectPartOptions{}); err != nil {
		return "", err
	}
	var found []string
	for upload := range j.ListIncompleteUploads(ctx, bucket, "unfinished", true) {
		if upload.Err != nil {
			return "", upload.Err
		}
		found = append(found, fmt.Sprintf("%s %d", upload.Key, upload.Size))
	}
	if err := j.RemoveIncompleteUpload(ctx, bucket, "unfinished"); err != nil {
		return "", err
	}
	for upload := range j.ListIncompleteUploads(ctx, bucket, "unfinished", true) {
		found = append(found, fmt.Sprintf("left: %s %v", upload.Key, upload.Err))
	}
	return strings.Join(found, ", "), nil
}

func (j job) presigned() (string, error) {
	const key = "pre signed+ü"
	put, err := j.PresignedPutObject(ctx, bucket, key, time.Minute)
	if err != nil {
		return "", err
	}
	get, err := j.PresignedGetObject(ctx, bucket, key, time.Minute, url.Values{"response-content-disposition": {`attachment; filename="a b.txt"`}})
	if err != nil {
		return "", err
	}
	head, err := j.PresignedHeadObject(ctx, bucket, key, time.Minute, nil)
	if err != nil {
		return "", err
	}
	var results []string
	for _, signed := range []struct {
		method string
		url    *url.URL
	}{{"PUT", put}, {"GET", get}, {"HEAD", head}} {
		var body io.Reader
		if signed.method == "PUT" {
			body = strings.NewReader("presigned")
		}
		req, err := http.NewRequest(signed.method, signed.url.String(), body)
		if err != nil {
			return "", err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		content, err := io.ReadAll(resp.Body)
		if err != nil {
			return "", err
		}
		results = append(results, fmt.Sprintf("%s %d %s %q", signed.method, resp.StatusCode, content, resp.Header.Get("Content-Disposition")))
		if resp.StatusCode != 200 {
			return "", errors.New(strings.Join(results, ", "))
		}
	}
	return strings.Join(results, ", "), nil
}

// once creates an object twice.
func (j job) once() (string, error) {
	options := minio.PutObjectOptions{}
	options.SetMatchETagExcept("*")
	if _, err := j.PutObject(ctx, bucket, "once", strings.NewReader("1"), 1, options); err != nil {
		return "", err
	}
	_, err := j.PutObject(ctx, bucket, "once", strings.NewReader("2"), 1, options)
	if err == nil {
		return "", errors.New("created twice")
	}
	return short(err), nil
}

func (j job) copyObject() (string, error) {
	copied, err := j.CopyObject(ctx, minio.CopyDestOptions{Bucket: "backups", Object: "copy ü"}, minio.CopySrcOptions{Bucket: bucket, Object: "dir/a +ü&.bin"})
	if err != nil {
		return "", err
	}
	composed, err := j.ComposeObject(ctx, minio.CopyDestOptions{Bucket: "backups", Object: "composed"},
		minio.CopySrcOptions{Bucket: bucket, Object: "large"}, minio.CopySrcOptions{Bucket: bucket, Object: "large", MatchRange: true, Start: 1, End: 6 * mib})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %s", copied.ETag, composed.ETag), nil
}

func (j job) tagging() (string, error) {
	set, err := tags.NewTags(map[string]string{"k +=": "v -@"}, true)
	if err != nil {
		return "", err
	}
	if err := j.PutObjectTagging(ctx, bucket, "large", set, minio.PutObjectTaggingOptions{}); err != nil {
		return "", err
	}
	got, err := j.GetObjectTagging(ctx, bucket, "large", minio.GetObjectTaggingOptions{})
	if err != nil {
		return "", err
	}
	if err := j.RemoveObjectTagging(ctx, bucket, "large", minio.RemoveObjectTaggingOptions{}); err != nil {
		return "", err
	}
	return fmt.Sprint(got.ToMap()), nil
}

func (j job) lifecycle() (string, error) {
	got, err := j.GetBucketLifecycle(ctx, bucket)
	if err != nil {
		return short(err), nil
	}
	return fmt.Sprintf("%d rules", len(got.Rules)), nil
}

// questions are what programs ask of a bucket before they begin.
func (j job) questions() (string, error) {
	var answers []string
	versioning, err := j.GetBucketVersioning(ctx, bucket)
	if err != nil {
		answers = append(answers, short(err))
	} else {
		answers = append(answers, versioning.Status)
	}
	if _, _, _, _, err := j.GetObjectLockConfig(ctx, bucket); err != nil {
		answers = append(answers, short(err))
	}
	if _, err := j.GetBucketEncryption(ctx, bucket); err != nil {
		answers = append(answers, short(err))
	}
	if location, err := j.GetBucketLocation(ctx, bucket); err != nil {
		answers = append(answers, short(err))
	} else {
		answers = append(answers, location)
	}
	return strings.Join(answers, ", "), nil
}

func (j job) remove() (string, error) {
	objects := make(chan minio.ObjectInfo, 10)
	for _, key := range []string{"large", "large-sha256", "once", "never/was"} {
		objects <- minio.ObjectInfo{Key: key}
	}
	close(objects)
	var results []string
	for result := range j.RemoveObjectsWithResult(ctx, bucket, objects, minio.RemoveObjectsOptions{}) {
		results = append(results, fmt.Sprintf("%s %v", result.ObjectName, result.Err))
	}
	if err := j.RemoveObject(ctx, bucket, "dir/a +ü&.bin", minio.RemoveObjectOptions{}); err != nil {
		return "", err
	}
	slices.Sort(results)
	return strings.Join(results, ", "), nil
}
