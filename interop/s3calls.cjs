// Makes S3 calls with the AWS SDK for JavaScript, for interop_clients_test.go.
//
// Each line on standard input is a call, each line on standard output its answer:
//
//     {"call": "upload", "bucket": "b", "key": "k", "file": "/tmp/f"}
//     {"status": 200, "result": {"ETag": "…"}}
//
// The environment says where to: S3_ENDPOINT, and the AWS_… variables that the
// SDK reads itself. Packages are found by NODE_PATH.

const crypto = require("node:crypto");
const fs = require("node:fs");
const readline = require("node:readline");
const {
  S3Client,
  CopyObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  paginateListObjectsV2,
} = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");

const s3 = new S3Client({
  endpoint: process.env.S3_ENDPOINT,
  forcePathStyle: true, // the endpoint has no name for each bucket
  maxAttempts: 1, // so that no fault hides behind a second one
});

const calls = {
  // A stream of unknown length, in parts of 5 MiB, of which some go at once.
  upload: ({ bucket, key, file }) =>
    new Upload({
      client: s3,
      params: {
        Bucket: bucket,
        Key: key,
        Body: fs.createReadStream(file),
        Metadata: { colour: "blue" },
      },
    }).done(),
  // A stream of known length, read once.
  stream: ({ bucket, key, file }) =>
    s3.send(
      new PutObjectCommand({
        Bucket: bucket,
        Key: key,
        Body: fs.createReadStream(file),
        ContentLength: fs.statSync(file).size,
      }),
    ),
  put: ({ bucket, key, body }) =>
    s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: body })),
  head: ({ bucket, key }) => s3.send(new HeadObjectCommand({ Bucket: bucket, Key: key })),
  get: async ({ bucket, key }) => {
    const answer = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
    const hash = crypto.createHash("sha256");
    for await (const piece of answer.Body) hash.update(piece);
    return { ...answer, Body: undefined, SHA256: hash.digest("hex") };
  },
  list: async ({ bucket, size }) => {
    const pages = [];
    const request = { Bucket: bucket, MaxKeys: size };
    for await (const page of paginateListObjectsV2({ client: s3 }, request)) {
      pages.push((page.Contents ?? []).map((object) => object.Key));
    }
    return { Pages: pages };
  },
  copy: ({ source, bucket, key }) =>
    s3.send(new CopyObjectCommand({ CopySource: source, Bucket: bucket, Key: key })),
  delete: ({ bucket, keys }) =>
    s3.send(
      new DeleteObjectsCommand({
        Bucket: bucket,
        Delete: { Objects: keys.map((key) => ({ Key: key })) },
      }),
    ),
  sign: async ({ method, bucket, key }) => {
    const command = method === "PUT" ? PutObjectCommand : GetObjectCommand;
    const input = { Bucket: bucket, Key: key };
    if (method === "PUT") Object.assign(input, { ContentType: "text/x-cat", Metadata: { realm_id: "2" } });
    return { URL: await getSignedUrl(s3, new command(input)) };
  },
};

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    let answer;
    try {
      const { $metadata, ...result } = await calls[request.call](request);
      answer = { status: $metadata?.httpStatusCode ?? 200, result };
    } catch (error) {
      const status = error.$metadata?.httpStatusCode ?? 0;
      answer = { status, code: error.name, message: error.message };
    }
    console.log(JSON.stringify(answer));
  }
}

main();
