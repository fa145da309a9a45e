"""Signs random requests with botocore, for interop_signature_test.go.

    signatures.py COUNT

Each line on standard output is a request, signed in the Authorization header or
in the query, with what a verifier has to know:

    {"method": "GET", "target": "/b/k?x=1", "headers": [["host", "…"], …],
     "signed": ["host", …], "id": "…", "secret": "…", "time": 1369353600}

The same COUNT prints the same lines, whatever the day.

    request = method path [ "?" query ] headers ; header-signed or presigned
    path    = "/" { segment "/" } segment       ; keys of S3: not normalised
    segment = { any character, as is or percent-encoded more than it must be }
    query   = { name [ "=" [ value ] ] }        ; in any order, encoded likewise
"""

import datetime
import hashlib
import json
import random
import sys
import unittest.mock
import urllib.parse

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE"]
UNRESERVED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
# What stands in keys and gets lost, doubled or spelt in another way.
ODD = [" ", "+", "%", "%20", "%2F", "=", "&", "?", "#", ";", ":", "@", "$", ",", "!", "'", "(", ")", "*", "[", "]",
       '"', "<", ">", "\\", "^", "`", "{", "|", "}", "\t", "\n", "ä", "ü", "é", "e\u0301", "日本", "\U0001f600", "//", "/"]
NAMES = ["prefix", "delimiter", "marker", "uploads", "uploadId", "partNumber", "acl", "tagging", "versionId", "list-type",
         "x-id", "response-content-type", "X-Custom", "x[", "xA", "a b", "ü", "a=b", "a&b", "a+b", "~", "-", "_"]
HEADERS = ["Content-Type", "Content-MD5", "Range", "If-None-Match", "Cache-Control", "x-amz-acl", "x-amz-meta-colour",
           "X-Amz-Meta-Two-Words", "x-amz-storage-class", "x-amz-copy-source", "x-amz-tagging", "x-custom", "Accept"]
# No tabs: botocore signs one as a space, Amazon's documents and its other signers
# as what it is.
VALUES = ["text/plain; charset=utf-8", "a  b", "  spaces   around  ", "a,b", "a, b", "bytes=0-9", '"etag"', "", "*",
          "a=1&b=2", "/bucket/key%20with?versionId=3", "=?UTF-8?Q?=C3=BC?="]


def text(rng, most):
    pieces = [rng.choice(ODD) if rng.random() < 0.3 else rng.choice(UNRESERVED) for _ in range(rng.randint(0, most))]
    return "".join(pieces)


def encoded(rng, value, left):
    """Percent-encodes what must be, and of the rest some; left is never."""
    out = []
    for byte in value.encode():
        char = chr(byte)
        if char in left or (char in UNRESERVED and rng.random() < 0.95):
            out.append(char)
        else:
            out.append(f"%{byte:02x}" if rng.random() < 0.1 else f"%{byte:02X}")
    return "".join(out)


def canonical(value, safe):
    return urllib.parse.quote(value, safe=safe)


def request(rng):
    method = rng.choice(METHODS)
    path = "/" + text(rng, 24)
    pairs = []
    for name in rng.sample(NAMES, rng.choice([0, 0, 1, 2, 3, 5])):
        pairs.append((name, rng.choice(["", text(rng, 12)])))
    headers = [(name, rng.choice(VALUES)) for name in rng.sample(HEADERS, rng.choice([0, 1, 2, 4]))]
    host = rng.choice(["gateway.example", "127.0.0.1:8080", "bucket.gateway.example", "gateway.example:9000"])
    presigned = rng.random() < 0.4
    identity, secret = f"user{rng.randint(0, 3)}", f"secret/{rng.randint(0, 3)}+0123456789abcdef"
    region = rng.choice(["us-east-1", "eu-west-1", "auto", "garage", "cn-north-1"])
    now = datetime.datetime(2013, 5, 24, tzinfo=datetime.timezone.utc) + datetime.timedelta(
        seconds=rng.randint(0, 500_000_000)
    )
    body = rng.choice(["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", hashlib.sha256(path.encode()).hexdigest()])

    # botocore signs a path as it stands: so it gets the one with every byte
    # encoded that S3 says, and the query in the same way.
    url = f"http://{host}{canonical(path, '/~')}"
    if pairs:
        url += "?" + "&".join(f"{canonical(name, '~')}={canonical(value, '~')}" for name, value in pairs)
    signing = AWSRequest(method=method, url=url, headers=dict(headers))
    credentials = Credentials(identity, secret)
    if presigned:
        signer = botocore.auth.S3SigV4QueryAuth(credentials, "s3", region, expires=rng.choice([1, 60, 3600, 604800]))
    else:
        signer = botocore.auth.S3SigV4Auth(credentials, "s3", region)
        # What a client with a digest of its own, or without any, signs.
        signer.payload = lambda _: body
    sign_at(signer, signing, now)

    # What is sent is that, or the same in another spelling.
    signed_url = urllib.parse.urlsplit(signing.url)
    query = urllib.parse.parse_qsl(signed_url.query, keep_blank_values=True, strict_parsing=bool(signed_url.query))
    rng.shuffle(query)
    target = "/" + encoded(rng, path[1:], "/")
    if query:
        target += "?" + "&".join(
            encoded(rng, name, "") + ("" if value == "" and rng.random() < 0.5 else "=" + encoded(rng, value, ""))
            for name, value in query
        )
    sent = [("Host", host)] + [(name, value) for name, value in signing.headers.items() if name.lower() != "host"]
    claim = dict(query)["X-Amz-SignedHeaders"] if presigned else signing.headers["Authorization"].split("SignedHeaders=")[1].split(",")[0]
    return {
        "method": method,
        "target": target,
        "headers": sent,
        "signed": claim.split(";"),
        "presigned": presigned,
        "id": identity,
        "secret": secret,
        "time": int(now.timestamp()),
    }


def sign_at(signer, signing, now):
    """Signs as if it were then: botocore takes the time from its clock."""
    naive = now.replace(tzinfo=None)
    with unittest.mock.patch.object(botocore.auth, "get_current_datetime", lambda *_, **__: naive):
        signer.add_auth(signing)


def main():
    rng = random.Random(20130524)
    for _ in range(int(sys.argv[1])):
        print(json.dumps(request(rng)))


main()
