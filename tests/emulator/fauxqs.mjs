// S3 and SQS in one process, of npm's fauxqs: a bucket with a directory's files, and a queue with their events.
// Prints `host:port` when it answers.
//
// node fauxqs.mjs PACKAGE DIRECTORY
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const [, , fauxqs, directory] = process.argv;
const { buildApp } = await import(join(fauxqs, "dist/app.js"));
const { S3Store } = await import(join(fauxqs, "dist/s3/s3Store.js"));
const { SqsStore } = await import(join(fauxqs, "dist/sqs/sqsStore.js"));

const s3Store = new S3Store();
const sqsStore = new SqsStore();
const app = buildApp({ logger: false, stores: { s3Store, sqsStore } });

// Through HTTP it takes no object of more than 11 MiB, and it sends no events.
s3Store.createBucket("landing");
const url = "http://127.0.0.1/000000000000/imports";
const queue = sqsStore.createQueue("imports", url, "arn:aws:sqs:eu-west-1:000000000000:imports");
for (const [index, key] of readdirSync(directory).sort().entries()) {
    const { contentLength: size, etag } = s3Store.putObject("landing", key, readFileSync(join(directory, key)));
    const sequencer = index.toString(16).padStart(16, "0");
    const record = {
        eventVersion: "2.1",
        eventSource: "aws:s3",
        awsRegion: "eu-west-1",
        eventTime: new Date().toISOString(),
        eventName: "ObjectCreated:Put",
        s3: { bucket: { name: "landing" }, object: { key, size, eTag: etag.replaceAll('"', ""), sequencer } },
    };
    queue.enqueue(SqsStore.createMessage(JSON.stringify({ Records: [record] })));
}

await app.listen({ host: "127.0.0.1", port: 0 });
console.log(`127.0.0.1:${app.server.address().port}`);
