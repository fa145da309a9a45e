"""Makes S3 calls with boto3, for interop_test.go.

Each line on standard input is a call, each line on standard output its answer:

    {"call": "put_object", "arguments": {"Bucket": "b", "Key": "k", "Body": "eA=="}}
    {"status": 200, "code": "", "header": {"etag": "…"}, "result": {"ETag": "…"}}

A call is a method of boto3's S3 client, with those that it puts on top: copy,
upload_file, download_file, upload_fileobj and generate_presigned_url. Some
things differ, because JSON has no bytes and no time:

  * Body is base64, both ways; for upload_fileobj it is a stream that cannot seek;
  * times are written as 2006-01-02T15:04:05.000000Z;
  * a result that is text is {"URL": text};
  * "pages": true runs the call's paginator and puts the pages under "pages".

The environment says where to: S3_ENDPOINT, and the AWS_… variables that boto3
reads itself. With X_API_KEY every request gets that header from an event hook,
which is how a boto3 program talks to the gateway.
"""

import base64
import datetime
import io
import json
import os
import sys

import boto3
import botocore.config
import botocore.exceptions


def client():
    s3 = boto3.client(
        "s3",
        endpoint_url=os.environ["S3_ENDPOINT"],
        # One attempt, so that no fault hides behind a second one.
        config=botocore.config.Config(
            s3={"addressing_style": "path"},
            # The default but for presigned URLs, for which it is version 2.
            signature_version="s3v4",
            retries={"total_max_attempts": 1},
        ),
    )
    key = os.environ.get("X_API_KEY")
    if key:

        def add_key(request, **_):
            request.headers["x-api-key"] = key

        s3.meta.events.register("before-send.s3", add_key)
    return s3


class Stream(io.RawIOBase):
    """Bytes that can be read once, in order."""

    def __init__(self, content):
        self.source = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.source.readinto(buffer)


def call(s3, name, arguments, pages):
    if "Body" in arguments:
        arguments["Body"] = base64.b64decode(arguments["Body"])
    if name == "upload_fileobj":
        arguments["Fileobj"] = Stream(arguments.pop("Body"))
    try:
        if pages:
            return {"status": 200, "pages": list(s3.get_paginator(name).paginate(**arguments))}
        result = getattr(s3, name)(**arguments)
    except botocore.exceptions.ClientError as error:
        metadata = error.response["ResponseMetadata"]
        return {
            "status": metadata["HTTPStatusCode"],
            "code": error.response["Error"]["Code"],
            "header": metadata["HTTPHeaders"],
        }
    if isinstance(result, str):
        result = {"URL": result}
    result = result or {}  # upload_file and its like return nothing
    metadata = result.pop("ResponseMetadata", {"HTTPStatusCode": 200, "HTTPHeaders": {}})
    if "Body" in result:
        result["Body"] = result["Body"].read()
    return {
        "status": metadata["HTTPStatusCode"],
        "header": metadata["HTTPHeaders"],
        "result": result,
    }


def plain(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    raise TypeError(f"no JSON for {type(value)}")


def main():
    s3 = client()
    for line in sys.stdin:
        request = json.loads(line)
        answer = call(s3, request["call"], request["arguments"] or {}, request.get("pages", False))
        print(json.dumps(answer, default=plain), flush=True)


main()
