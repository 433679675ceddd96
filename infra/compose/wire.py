"""Wires bucket -> SNS -> SQS with a dead-letter queue. Running it again changes nothing."""

import json
import os
import time

import boto3
from botocore.exceptions import BotoCoreError

BUCKET = "landing"
# Seconds that the emulator may take to start.
PATIENCE = 60

sqs, sns, s3 = (boto3.client(name, region_name=os.environ["AWS_REGION"]) for name in ("sqs", "sns", "s3"))


def wait_for_emulator():
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return s3.list_buckets()
        except BotoCoreError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def queue(name, attributes):
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, found["Attributes"]["QueueArn"]


wait_for_emulator()
# The dead-letter queue keeps longer than the queue: a message keeps its age when it moves.
_, dead_letter_arn = queue("imports-dead", {"MessageRetentionPeriod": "1209600"})
redrive = json.dumps({"deadLetterTargetArn": dead_letter_arn, "maxReceiveCount": "10"})
url, arn = queue("imports", {"RedrivePolicy": redrive, "VisibilityTimeout": "60"})
topic = sns.create_topic(Name="landing-events")["TopicArn"]
sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
if BUCKET not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
configuration = {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]}
# Each time it is set S3 sends a test event; with nothing else in the queue it would wake the pool, so it is taken out.
if not s3.get_bucket_notification_configuration(Bucket=BUCKET).get("TopicConfigurations"):
    s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration=configuration)
    for message in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10).get("Messages", []):
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
print(f"s3://{BUCKET} -> {topic} -> {url}")
