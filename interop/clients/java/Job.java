import java.io.ByteArrayInputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletionException;
import software.amazon.awssdk.core.ResponseBytes;
import software.amazon.awssdk.core.async.AsyncRequestBody;
import software.amazon.awssdk.core.async.BlockingInputStreamAsyncRequestBody;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.http.SdkHttpRequest;
import software.amazon.awssdk.retries.DefaultRetryStrategy;
import software.amazon.awssdk.services.s3.S3AsyncClient;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.S3Configuration;
import software.amazon.awssdk.services.s3.model.*;
import software.amazon.awssdk.services.s3.presigner.S3Presigner;
import software.amazon.awssdk.transfer.s3.S3TransferManager;

/**
 * Does a job with the AWS SDK for Java 2 and its transfer manager, for interop_programs_test.go, and
 * writes a line of JSON for each step of it:
 *
 * <pre>
 *   {"step": "a range", "result": "206, 10 bytes, sha256 …"}
 *   {"step": "a range", "error": "416 InvalidRange"}
 * </pre>
 *
 * The environment says where to: S3_ENDPOINT, and the AWS_… variables that the SDK reads itself.
 */
public class Job {
    static final int MIB = 1 << 20;
    static final String BUCKET = "photos";
    static final URI ENDPOINT = URI.create(System.getenv("S3_ENDPOINT"));

    final S3Client s3 =
            S3Client.builder()
                    .endpointOverride(ENDPOINT)
                    .forcePathStyle(true)
                    .overrideConfiguration(o -> o.retryStrategy(DefaultRetryStrategy.doNotRetry()))
                    .build();
    final S3AsyncClient async =
            S3AsyncClient.builder()
                    .endpointOverride(ENDPOINT)
                    .forcePathStyle(true)
                    .multipartEnabled(true)
                    .multipartConfiguration(m -> m.thresholdInBytes(5L * MIB).minimumPartSizeInBytes(5L * MIB))
                    .overrideConfiguration(o -> o.retryStrategy(DefaultRetryStrategy.doNotRetry()))
                    .build();
    final S3TransferManager transfers = S3TransferManager.builder().s3Client(async).build();
    final S3Presigner presigner =
            S3Presigner.builder()
                    .endpointOverride(ENDPOINT)
                    .serviceConfiguration(S3Configuration.builder().pathStyleAccessEnabled(true).build())
                    .build();
    final byte[] content = noise(12 * MIB + 345);

    public static void main(String[] args) throws Exception {
        Job job = new Job();
        step("HeadBucket, CreateBucket", job::start);
        step("PutObject of a stream", job::putStream);
        step("user metadata", job::metadata);
        for (ChecksumAlgorithm algorithm :
                List.of(ChecksumAlgorithm.CRC32, ChecksumAlgorithm.CRC32_C, ChecksumAlgorithm.SHA1, ChecksumAlgorithm.SHA256)) {
            step("checksum " + algorithm, () -> job.checksum(algorithm));
        }
        step("GetObject of a range", job::getRange);
        step("GetObjectAttributes", job::attributes);
        step("TransferManager upload, multipart", job::upload);
        step("TransferManager upload of unknown length", job::uploadUnknown);
        step("TransferManager download", job::download);
        step("TransferManager folder up and down", job::folder);
        step("presigned PUT, GET", job::presigned);
        step("ifNoneMatch", job::once);
        step("paginators", job::paginators);
        step("CopyObject, TransferManager copy", job::copyObject);
        step("DeleteObjects", job::deleteObjects);
        job.transfers.close();
        job.async.close();
    }

    static void step(String name, Callable<String> run) {
        String kind = "result";
        String text;
        try {
            text = run.call();
        } catch (Exception e) {
            e.printStackTrace();
            kind = "error";
            text = brief(e);
        }
        System.out.println("{\"step\": " + quote(name) + ", \"" + kind + "\": " + quote(text) + "}");
    }

    /** The status and the code of an error, which are the same from one place to another. */
    static String brief(Throwable e) {
        if (e instanceof CompletionException && e.getCause() != null) {
            return brief(e.getCause());
        }
        if (e instanceof S3Exception s3) {
            return s3.statusCode() + " " + (s3.awsErrorDetails() == null ? "" : s3.awsErrorDetails().errorCode());
        }
        return e.toString();
    }

    static String quote(String s) {
        return '"' + s.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n").replace("\t", "\\t") + '"';
    }

    static byte[] noise(int size) {
        byte[] content = new byte[size];
        byte[] piece = new byte[0];
        for (int at = 0; at < size; at += piece.length) {
            piece = sha256(piece);
            System.arraycopy(piece, 0, content, at, Math.min(piece.length, size - at));
        }
        return content;
    }

    static byte[] sha256(byte[] content) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(content);
        } catch (java.security.NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    static String digest(byte[] content) {
        return content.length + " bytes, sha256 " + HexFormat.of().formatHex(sha256(content));
    }

    ResponseBytes<GetObjectResponse> get(String key) {
        return s3.getObjectAsBytes(g -> g.bucket(BUCKET).key(key).checksumMode(ChecksumMode.ENABLED));
    }

    String same(String key) {
        ResponseBytes<GetObjectResponse> got = get(key);
        if (!Arrays.equals(got.asByteArray(), content)) {
            throw new IllegalStateException("other bytes: " + digest(got.asByteArray()));
        }
        return got.response().eTag() + " " + got.response().checksumCRC32();
    }

    String start() {
        s3.headBucket(h -> h.bucket(BUCKET));
        // For one that is there and the caller's own: a success with an error's code.
        try {
            s3.createBucket(c -> c.bucket(BUCKET));
            return "200";
        } catch (BucketAlreadyOwnedByYouException e) {
            return brief(e);
        }
    }

    String putStream() {
        byte[] part = Arrays.copyOf(content, 2 * MIB);
        PutObjectResponse put =
                s3.putObject(
                        p -> p.bucket(BUCKET).key("dir/a +ü&.bin").contentType("image/x-noise").cacheControl("max-age=60"),
                        RequestBody.fromInputStream(new ByteArrayInputStream(part), part.length));
        ResponseBytes<GetObjectResponse> got = get("dir/a +ü&.bin");
        GetObjectResponse r = got.response();
        return String.join(", ", put.eTag(), put.checksumCRC32(), r.contentType(), r.cacheControl(), digest(got.asByteArray()));
    }

    String metadata() {
        s3.putObject(
                p -> p.bucket(BUCKET).key("metadata").metadata(Map.of("colour", "blue", "realm_id", "2")), RequestBody.fromString("x"));
        return new TreeMap<>(s3.headObject(h -> h.bucket(BUCKET).key("metadata")).metadata()).toString();
    }

    String checksum(ChecksumAlgorithm algorithm) {
        byte[] part = Arrays.copyOf(content, 70_000);
        String key = "checksum-" + algorithm;
        PutObjectResponse put = s3.putObject(p -> p.bucket(BUCKET).key(key).checksumAlgorithm(algorithm), RequestBody.fromBytes(part));
        GetObjectResponse got = get(key).response();
        return Arrays.asList(
                        put.checksumCRC32(), put.checksumCRC32C(), put.checksumSHA1(), put.checksumSHA256(),
                        got.checksumCRC32(), got.checksumCRC32C(), got.checksumSHA1(), got.checksumSHA256())
                .toString();
    }

    String getRange() {
        ResponseBytes<GetObjectResponse> got =
                s3.getObjectAsBytes(g -> g.bucket(BUCKET).key("dir/a +ü&.bin").range("bytes=1000000-1000009"));
        if (!Arrays.equals(got.asByteArray(), Arrays.copyOfRange(content, 1000000, 1000010))) {
            throw new IllegalStateException("other bytes");
        }
        return got.response().contentRange();
    }

    String attributes() {
        GetObjectAttributesResponse a =
                s3.getObjectAttributes(
                        g -> g.bucket(BUCKET).key("dir/a +ü&.bin").objectAttributes(ObjectAttributes.knownValues()));
        return a.eTag() + " " + a.objectSize() + " " + a.storageClass() + " " + (a.checksum() == null ? null : a.checksum().checksumCRC32());
    }

    String upload() throws Exception {
        Path file = Files.createTempFile("job", null);
        Files.write(file, content);
        transfers.uploadFile(u -> u.source(file).putObjectRequest(p -> p.bucket(BUCKET).key("large"))).completionFuture().join();
        Files.delete(file);
        return same("large");
    }

    String uploadUnknown() throws Exception {
        BlockingInputStreamAsyncRequestBody body = AsyncRequestBody.forBlockingInputStream(null);
        var upload = transfers.upload(u -> u.requestBody(body).putObjectRequest(p -> p.bucket(BUCKET).key("large unknown")));
        body.writeInputStream(new ByteArrayInputStream(content));
        upload.completionFuture().join();
        return same("large unknown");
    }

    String download() throws Exception {
        Path file = Files.createTempFile("job", null);
        transfers.downloadFile(d -> d.destination(file).getObjectRequest(g -> g.bucket(BUCKET).key("large"))).completionFuture().join();
        byte[] got = Files.readAllBytes(file);
        Files.delete(file);
        return digest(got);
    }

    String folder() throws Exception {
        Path up = Files.createTempDirectory("job");
        Path down = Files.createTempDirectory("job");
        for (int i = 0; i < 12; i++) {
            Path folder = Files.createDirectories(up.resolve("dir " + i % 3).resolve("+&"));
            Files.write(folder.resolve("file " + i), Arrays.copyOf(content, i * 1000));
        }
        var failed = transfers.uploadDirectory(u -> u.source(up).bucket(BUCKET).s3Prefix("tree")).completionFuture().join().failedTransfers();
        var lost =
                transfers.downloadDirectory(d -> d.destination(down).bucket(BUCKET).listObjectsV2RequestTransformer(l -> l.prefix("tree/")))
                        .completionFuture()
                        .join()
                        .failedTransfers();
        if (!failed.isEmpty() || !lost.isEmpty()) {
            throw new IllegalStateException(failed + " " + lost);
        }
        List<String> found = new ArrayList<>();
        try (var files = Files.walk(down)) {
            for (Path file : (Iterable<Path>) files.filter(Files::isRegularFile).sorted()::iterator) {
                found.add(down.relativize(file) + " " + digest(Files.readAllBytes(file)));
            }
        }
        return String.join(", ", found);
    }

    String presigned() throws Exception {
        var put =
                presigner.presignPutObject(
                        p ->
                                p.signatureDuration(Duration.ofMinutes(1))
                                        .putObjectRequest(o -> o.bucket(BUCKET).key("pre signed+ü").contentType("text/x-presigned").metadata(Map.of("colour", "blue"))));
        var get =
                presigner.presignGetObject(
                        p ->
                                p.signatureDuration(Duration.ofMinutes(1))
                                        .getObjectRequest(o -> o.bucket(BUCKET).key("pre signed+ü").responseContentDisposition("attachment; filename=\"a b.txt\"")));
        HttpURLConnection up = open(put.url(), put.httpRequest());
        up.setRequestMethod("PUT");
        up.setDoOutput(true);
        up.getOutputStream().write("presigned".getBytes());
        if (up.getResponseCode() != 200) {
            throw new IllegalStateException("PUT " + up.getResponseCode() + " " + new String(up.getErrorStream().readAllBytes()));
        }
        HttpURLConnection down = open(get.url(), get.httpRequest());
        if (down.getResponseCode() != 200) {
            throw new IllegalStateException("GET " + down.getResponseCode() + " " + new String(down.getErrorStream().readAllBytes()));
        }
        return String.join(
                ", ",
                new String(down.getInputStream().readAllBytes()),
                down.getHeaderField("Content-Type"),
                down.getHeaderField("Content-Disposition"),
                down.getHeaderField("x-amz-meta-colour"));
    }

    static HttpURLConnection open(URL url, SdkHttpRequest signed) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) url.openConnection();
        signed.headers().forEach((name, values) -> {
            if (!name.equalsIgnoreCase("host")) {
                connection.setRequestProperty(name, values.get(0));
            }
        });
        return connection;
    }

    String once() {
        Runnable create = () -> s3.putObject(p -> p.bucket(BUCKET).key("once").ifNoneMatch("*"), RequestBody.fromString("1"));
        create.run();
        try {
            create.run();
        } catch (S3Exception e) {
            return brief(e);
        }
        throw new IllegalStateException("created twice");
    }

    String paginators() {
        List<String> found = new ArrayList<>();
        for (int i = 0; i < 7; i++) {
            String key = "many/" + i + " ü+/x";
            s3.putObject(p -> p.bucket(BUCKET).key(key), RequestBody.fromString("x"));
        }
        s3.listObjectsV2Paginator(l -> l.bucket(BUCKET).prefix("many/").maxKeys(3)).stream()
                .forEach(page -> found.add(page.contents().stream().map(o -> o.key() + " " + o.size()).toList().toString()));
        s3.listObjectsV2Paginator(l -> l.bucket(BUCKET).prefix("many/").delimiter("/").maxKeys(2)).commonPrefixes().stream()
                .forEach(prefix -> found.add(prefix.prefix()));
        return found.toString();
    }

    String copyObject() {
        String eTag =
                s3.copyObject(c -> c.sourceBucket(BUCKET).sourceKey("dir/a +ü&.bin").destinationBucket("backups").destinationKey("copy ü"))
                        .copyObjectResult()
                        .eTag();
        // In parts, for it is larger than one.
        transfers.copy(
                        c ->
                                c.copyObjectRequest(
                                        r -> r.sourceBucket(BUCKET).sourceKey("large").destinationBucket(BUCKET).destinationKey("large copy")))
                .completionFuture()
                .join();
        return eTag + " " + same("large copy");
    }

    String deleteObjects() {
        List<ObjectIdentifier> keys = new ArrayList<>();
        for (int i = 0; i < 7; i++) {
            keys.add(ObjectIdentifier.builder().key("many/" + i + " ü+/x").build());
        }
        DeleteObjectsResponse r = s3.deleteObjects(d -> d.bucket(BUCKET).delete(o -> o.objects(keys)));
        return r.deleted().size() + " deleted, " + r.errors().size() + " errors";
    }
}
