"""Puts files into the bucket, under telemetry/."""

import os
import sys

import boto3

if len(sys.argv) < 2:
    sys.exit("usage: put.py FILE...")
s3 = boto3.client("s3", region_name=os.environ["AWS_REGION"])
for path in sys.argv[1:]:
    key = "telemetry/" + os.path.basename(path)
    try:
        file = open(path, "rb")
    except OSError as error:
        # A file of one's own is often closed to the container's user.
        sys.exit(f"{path}: {error.strerror} (/files is infra/compose/files, read by user {os.getuid()})")
    with file:
        s3.upload_fileobj(file, "landing", key)
    print(f"s3://landing/{key}")
