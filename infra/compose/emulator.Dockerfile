# An emulated AWS (S3, SNS, SQS) that wires itself, and the script that feeds it.
FROM python:3.12-slim
RUN pip install --no-cache-dir ministack==1.5.33 boto3==1.43.11 && useradd --system --uid 10001 --create-home emulator \
    && install --directory --owner emulator /var/lib/aws
COPY serve.sh wire.py put.py /opt/penstock/
USER emulator
EXPOSE 4566
CMD ["/opt/penstock/serve.sh"]
