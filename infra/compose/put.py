"""Puts files into the bucket, under telemetry/."""

import os
import sys

import boto3

if len(sys.argv) < 2:
    sys.exit("usage: put.py FILE...")
s3 = boto3.client("s3", region_name=os.environ["AWS_REGION"])
for path in sys.argv[1:]:
    key = "telemetry/" + os.path.basename(path)
    s3.upload_file(path, "landing", key)
    print(f"s3://landing/{key}")
