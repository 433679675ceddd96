"""Answers each post with the language of its body. A model would be as slow as LANGUAGE_PAUSE_MS makes this one."""

import json
import os
import sys
import time

WORDS = {
    "de": {"der", "die", "und", "nicht", "mit", "ist"},
    "en": {"the", "and", "with", "not", "is", "of"},
    "fr": {"le", "la", "et", "avec", "pas", "est"},
}
PAUSE_SECS = int(os.environ.get("LANGUAGE_PAUSE_MS", "0")) / 1000


def language_of(body):
    words = body.lower().split()
    known = {language: sum(word in common for word in words) for language, common in WORDS.items()}
    best = max(known, key=known.get)
    return best if known[best] else "unknown"


for line in sys.stdin:
    post = json.loads(line)
    answer = {"penstock_row": post["penstock_row"]}
    if post["country"] == "KN":
        answer["penstock_filtered"] = True
    elif not post["body"]:
        answer["penstock_error"] = "there is no text"
    else:
        time.sleep(PAUSE_SECS)
        answer |= {"post_id": post["post_id"], "language": language_of(post["body"])}
    print(json.dumps(answer))
