"""What the tables hold in the end, worked out from the newest version of each object and nothing else.

python3 model.py DIRECTORY/newest prints a JSON object: for each table its rows.
It knows no queue, no order of arrival and no SQL, and shares no code with what it checks.
"""

import csv
import json
import sys
from pathlib import Path

ISLANDS = {"KN"}
POSTS_AND_STEPS = ("posts", "post_lines", "post_cards", "post_languages")
STOP_WORDS = {
    "de": "der die und nicht mit ist",
    "en": "the and with not is of",
    "fr": "le la et avec pas est",
}


def luhn(number):
    total = 0
    for place, digit in enumerate(reversed(number)):
        total += sum(map(int, str(int(digit) * (1 + place % 2))))
    return total % 10 == 0


def card_in(text):
    run = ""
    for word in [*text.split(), "end"]:
        digits = word.replace("-", "")
        if digits.isdigit():
            run += digits
        elif 13 <= len(run) <= 16 and luhn(run):
            return run
        else:
            run = ""
    return None


def language_in(text):
    said = text.lower().split()
    counts = {language: sum(map(said.count, words.split())) for language, words in STOP_WORDS.items()}
    most = max(counts.values())
    return next(language for language, count in counts.items() if count == most) if most else "unknown"


def sites_in(newest):
    for path in newest.glob("sites/*.csv"):
        for row in csv.DictReader(path.open()):
            site_id, blocked = int(row["site_id"]), row["blocked"] == "true" or None
            yield site_id, {"site_id": site_id, "name": row["name"], "blocked": blocked, "from_file": path.name}


def accounts_in(newest):
    accounts = {}
    for path in newest.glob("accounts/*.ndjson"):
        for row in map(json.loads, path.open()):
            known = accounts.get(row["user_id"])
            if not known or row["updated_at"] > known["updated_at"]:
                accounts[row["user_id"]] = row | {"sort_at": row["updated_at"], "from_file": path.name}
    return accounts


def add_posts(path, sites, accounts, tables, reject):
    """Adds what an object's posts come to."""
    posts, cut_off = {}, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            posts[number] = json.loads(line)
        except ValueError:
            cut_off.append(number)
    if not posts:
        return
    for dataset in POSTS_AND_STEPS:
        for number in cut_off:
            reject(dataset, number, "syntax", path)
    for number, post in posts.items():
        post_id, body = post["post_id"], post["body"]
        site, account = sites.get(post["site_id"], {}), accounts.get(post["user_id"], {})
        if post["posted_at"] == "yesterday":
            reject("posts", number, "type", path)
        elif post["country"] not in ISLANDS and not site.get("blocked"):
            row = {name: post[name] for name in ("post_id", "site_id", "user_id", "country", "body", "posted_at")}
            row |= {"site_name": site.get("name"), "handle": account.get("handle")}
            row |= {"dt": path.parent.name.removeprefix("dt="), "sort_at": post["posted_at"], "from_file": path.name}
            tables["post"].append(row)
        if post["country"] in ISLANDS:
            continue
        order = post["lines"] or []
        if any(line["amount"] < 0 for line in order):
            reject("post_lines", number, "check", path)
        else:
            tables["post_line"] += [{"post_id": post_id, "line": n} | line for n, line in enumerate(order, 1)]
        tables["post_card"].append({"post_id": post_id, "card": card_in(body or "")})
        if body:
            tables["post_language"].append({"post_id": post_id, "language": language_in(body)})
        else:
            reject("post_languages", number, "command", path)


def main(newest):
    newest = Path(newest)
    sites, accounts = dict(sites_in(newest)), accounts_in(newest)
    tables = {name: [] for name in ("post", "post_line", "post_card", "post_language", "rejects")}

    def reject(dataset, number, reason, path):
        tables["rejects"].append({"dataset": dataset, "row_number": number, "class": reason, "file": path.name})

    for path in newest.glob("posts/*/*.ndjson"):
        add_posts(path, sites, accounts, tables, reject)
    print(json.dumps(tables | {"site": list(sites.values()), "account": list(accounts.values())}))


if __name__ == "__main__":
    main(sys.argv[1])
