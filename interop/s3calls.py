"""Makes S3 calls with boto3, for interop_test.go.

Each line on standard input is a call, each line on standard output its answer:

    {"call": "put_object", "arguments": {"Bucket": "b", "Key": "k", "Body": "eA=="}}
    {"status": 200, "code": "", "header": {"etag": "…"}, "result": {"ETag": "…"}}

A call is a method of boto3's S3 client, upload_file and download_file
included. Three things differ, because JSON has no bytes and no time:

  * Body is base64, both ways;
  * times are written as 2006-01-02T15:04:05.000000Z;
  * "pages": true runs the call's paginator and puts the pages under "pages".

The environment says where to: S3_ENDPOINT, and the AWS_… variables that boto3
reads itself. With X_API_KEY every request gets that header from an event hook,
which is how a boto3 program talks to the gateway.
"""

import base64
import datetime
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
            s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}
        ),
    )
    key = os.environ.get("X_API_KEY")
    if key:

        def add_key(request, **_):
            request.headers["x-api-key"] = key

        s3.meta.events.register("before-send.s3", add_key)
    return s3


def call(s3, name, arguments, pages):
    if "Body" in arguments:
        arguments["Body"] = base64.b64decode(arguments["Body"])
    if pages:
        return {"status": 200, "pages": list(s3.get_paginator(name).paginate(**arguments))}
    try:
        result = getattr(s3, name)(**arguments)
    except botocore.exceptions.ClientError as error:
        metadata = error.response["ResponseMetadata"]
        return {
            "status": metadata["HTTPStatusCode"],
            "code": error.response["Error"]["Code"],
            "header": metadata["HTTPHeaders"],
        }
    result = result or {}  # upload_file and download_file return nothing
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
