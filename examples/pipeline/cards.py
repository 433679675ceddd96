"""Answers each post with the card number in its body, if there is one whose check digit is right."""

import json
import re
import sys


def is_card(number):
    """Luhn's check (ISO/IEC 7812-1)."""
    digits = [int(digit) for digit in reversed(number)]
    doubled = [2 * digit for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(digit // 10 + digit % 10 for digit in doubled)) % 10 == 0


for line in sys.stdin:
    post = json.loads(line)
    answer = {"penstock_row": post["penstock_row"]}
    if post["country"] == "KN":
        answer["penstock_filtered"] = True
    else:
        found = re.findall(r"(?:[0-9][ -]?){13,16}", post["body"] or "")
        numbers = (re.sub("[^0-9]", "", text) for text in found)
        answer |= {"post_id": post["post_id"], "card": next(filter(is_card, numbers), None)}
    print(json.dumps(answer))
