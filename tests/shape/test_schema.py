#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answers through 50 schemas from logits that mean nothing, judged by python3-jsonschema (O-06, P-07):
test_schema.py SAMPLE_SCHEMA SCHEMAS.jsonl TOKENIZER...

10,000 answers, 100,000 with GLM4V_DEEP=1. Every one must parse and match, none may be cut, none may have a property twice or
white space between its parts.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jsonschema

ANSWERS = 100000 if os.environ.get("GLM4V_DEEP") else 10000


def no_doubles(pairs):
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a property stands there twice")
    return dict(pairs)


def compact(text):
    """Without what stands in strings there is no white space."""
    inside = escaped = False
    for c in text:
        if not inside and c.isspace():
            return False
        if not escaped and c == '"':
            inside = not inside
        escaped = inside and not escaped and c == "\\"
    return True


def wrong(validator, text):
    """Why an answer is wrong; None where it is right."""
    try:
        value = json.loads(text, object_pairs_hook=no_doubles)
    except ValueError as error:
        return str(error)
    error = next(validator.iter_errors(value), None)
    if error:
        return error.message
    return None if compact(text) else "white space"


def sample(program, tokenizer, schema, count, seed):
    """(chooser, is it whole, text) of each answer."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(schema)
        file.flush()
        done = subprocess.run([program, tokenizer, file.name, str(count), str(seed)], capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    for line in done.stdout.decode().split("\n")[:-1]:
        chooser, _, end, text = line.split(" ", 3)
        yield chooser, end == "whole", text


def check_schema(program, tokenizers, number, schema, count):
    """Complaints, and every answer that came."""
    validator = jsonschema.Draft202012Validator(json.loads(schema))
    problems, answers = [], []
    for k, tokenizer in enumerate(tokenizers):
        for chooser, whole, text in sample(program, tokenizer, schema, count, 100 * number + k):
            answers.append(text)
            why = wrong(validator, text) if whole else "cut"
            if why:
                problems.append(f"{pathlib.Path(tokenizer).name} {chooser}: {why}: {text[:200]}")
    return problems, answers


def blind(validator, answers):
    """Negative control: what the judge lets pass of a right answer that was made wrong."""
    text = max(answers, key=len)
    for bad in (text[:-1] if text[-1] in '"]}' else "", text + ",", " " + text, "[1e999,{}]", '{"a":1,"a":2}'):
        if not wrong(validator, bad):
            yield bad


def main():
    program, path, tokenizers = sys.argv[1], sys.argv[2], sys.argv[3:]
    schemas = pathlib.Path(path).read_text().splitlines()
    count = -(-ANSWERS // (len(schemas) * len(tokenizers)))
    total = failed = 0
    for number, schema in enumerate(schemas, 1):
        problems, answers = check_schema(program, tokenizers, number, schema, count)
        problems += [f"the judge lets pass {bad[:200]}"
                     for bad in blind(jsonschema.Draft202012Validator(json.loads(schema)), answers)]
        total += len(answers)
        failed += bool(problems)
        for problem in problems[:5]:
            print("#", problem)
        print(f"{'not ' if problems else ''}ok {number} - {len(answers)} answers match {schema[:80]}")
    enough = total >= ANSWERS and len(schemas) >= 50
    print(f"{'' if enough else 'not '}ok {len(schemas) + 1} - {total} answers through {len(schemas)} schemas")
    print(f"1..{len(schemas) + 1}")
    return 1 if failed or not enough else 0


if __name__ == "__main__":
    sys.exit(main())
