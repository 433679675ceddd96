"""Writes objects as producers would leave them: python3 generate.py DIRECTORY [SEED [OBJECTS]]

DIRECTORY/newest has the version of each object that stands in the end, DIRECTORY/earlier those that were overwritten.
"""

import json
import random
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

SITES = "Harbour Market Spam Garden Tower Bridge Mill Forge Orchard Casino Library Pier".split()
BLOCKED = {3, 10}
UNKNOWN_SITE = 99
USERS = 60
COUNTRIES = ["DE", "FR", "GB", "ES", "KN"]
TEXTS = [
    "der Tee ist gut und nicht teuer",
    "die Lieferung mit der Post ist da",
    "the tea is good and not expensive",
    "all of the parcels came with the post",
    "le colis est arrive avec la poste",
    "la tasse et le bol ne sont pas la",
    "ok ok ok",
]
CARDS = ["4539 1488 0343 6467", "5500-0000-0000-0004", "340000000000009", "4539 1488 0343 6468"]
ITEMS = ["tea", "cup", "kettle", "oil", "watch"]
START = datetime(2026, 6, 1, 8, tzinfo=timezone.utc)


def at(minutes):
    return (START + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def body(rng):
    text = rng.choice(TEXTS)
    return f"{text} paid with {rng.choice(CARDS)} today" if rng.random() < 0.3 else text


def post(rng, post_id, day):
    """The second day's posts also name what comes late: the last sites and accounts."""
    lines = [{"item": rng.choice(ITEMS), "amount": rng.randrange(1, 9000) / 100} for _ in range(rng.randrange(4))]
    return {
        "post_id": post_id,
        "site_id": rng.randrange(1, 9 if day == 1 else len(SITES) + 1),
        "user_id": rng.choice([None, rng.randrange(1, USERS // 2 if day == 1 else USERS + 1)]),
        "country": rng.choice(COUNTRIES),
        "posted_at": at(post_id),
        "body": body(rng),
        "lines": lines or None,
    }


def posts(rng, first_id, n_posts, day):
    """The lines of an object. Four of them are bad, each in its own way."""
    rows = [post(rng, first_id + index, day) for index in range(n_posts)]
    refund = [{"item": "tea", "amount": 1}, {"item": "tea", "amount": -1}]
    mistakes = [{"posted_at": "yesterday"}, {"body": None}, {"lines": refund}]
    for row, mistake in zip(rows, mistakes):
        row |= {"country": "DE", "site_id": 1} | mistake
    rng.shuffle(rows)
    lines = [json.dumps(row) for row in rows]
    lines.insert(rng.randrange(len(lines)), lines[0][:60])
    return lines


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))


def account(user_id, changed):
    plan = ["free", "team", "whole"][(user_id + changed) % 3]
    updated_at = at(user_id + 600 * changed)
    return json.dumps({"user_id": user_id, "handle": f"user{user_id}", "plan": plan, "updated_at": updated_at})


def main(directory, seed=1, n_objects=16):
    rng = random.Random(int(seed))
    newest, earlier = Path(directory, "newest"), Path(directory, "earlier")
    for day, ids in [(1, range(1, 9)), (2, range(9, len(SITES) + 1))]:
        sites = [f"{site_id},{SITES[site_id - 1]},{'true' if site_id in BLOCKED else ''}" for site_id in ids]
        write(newest / f"sites/2026-06-0{day}.csv", ["site_id,name,blocked", *sites])
    for part in range(4):
        ids = range(1 + part * USERS // 4, 1 + (part + 1) * USERS // 4)
        write(newest / f"accounts/2026-06-0{1 + part // 2}-{part}.ndjson", [account(user_id, 0) for user_id in ids])
    # Plans change: each of these accounts is in two objects, which may come in either order, and twice in this one.
    changed = [account(user_id, times) for user_id in range(1, USERS, 5) for times in (2, 1)]
    write(newest / "accounts/changed.ndjson", changed)

    for index in range(int(n_objects)):
        day = 1 + index % 2
        key, first_id = f"posts/dt=2026-06-0{day}/part-{index:03}.ndjson", 1000 * (index + 1)
        write(newest / key, posts(rng, first_id, 30, day))
        if index % 3 == 0:
            # Ten posts more, which the correction has no more.
            write(earlier / key, posts(rng, first_id, 40, day))
    stray = post(rng, 1, 2) | {"site_id": UNKNOWN_SITE, "country": "DE"}
    write(newest / "posts/dt=2026-06-02/stray.ndjson", [json.dumps(stray)])
    write(newest / "posts/dt=2026-06-02/broken.ndjson", [line[:40] for line in posts(rng, 2, 30, 2)])


if __name__ == "__main__":
    main(*sys.argv[1:])
