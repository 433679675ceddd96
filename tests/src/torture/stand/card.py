"""A step that asks to be tried again now and then, and does not survive every row."""

import json
import os
import random
import sys

if random.random() < 0.15:
    sys.exit(75)
for line in sys.stdin:
    row = json.loads(line)
    number, key = row["penstock_row"], int(row["id"])
    if row["value"].startswith("crash"):
        if key % 2:
            os.kill(os.getpid(), 9)
        sys.exit("this row is too much")
    if key % 10 == 4:
        row = {"penstock_row": number, "penstock_filtered": True}
    elif key % 100 == 50:
        row = {"penstock_row": number, "penstock_error": "there is no such card"}
    else:
        row["extra"] = f"{key}:{row['version']}"
    print(json.dumps(row))
