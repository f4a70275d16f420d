#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules of the source tree, one TAP line each: tests/style.py [ROOT].

Reads what git tracks. Each rule is a function that yields "file:line: why"; its name says what holds.
The rules test themselves first: each must object to a line made for it.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()

SOURCE = (".c", ".h", ".cu", ".cuh", ".py", ".sh", ".build", ".in", ".md", ".txt", ".prs", ".supp")
CODE = (".c", ".h", ".cu", ".cuh")
ALL_CODE = ("engine/", "kernels/", "openai/", "contract/", "remote/", "tools/", "gst-plugin/", "examples/")

# L-01: what engine/, gst-plugin/ and tools/ never call; a fork after CUDA has begun would break it in the child. Raw
# allocation belongs to engine/src/base/mem.c.
BANNED = re.compile(
    r"\b(strcpy|strcat|sprintf|vsprintf|alloca|assert|abort|exit|_exit|system|popen|strtok|atoi|atol|atof|"
    r"strtol|strtoul|gets|fork|vfork|posix_spawnp?|g_spawn_\w+)\s*\(")
RAW_ALLOCATION = re.compile(r"\b(malloc|calloc|realloc|reallocarray)\s*\(")
VARIABLE_G_NEW = re.compile(r"\bg_(?:malloc0?|realloc)\s*\((?!\s*(?:sizeof\b|\d))")
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u00a0]")
SUBJECT = re.compile(r"^([a-z0-9_./*, -]+|[A-Z][A-Z]+[A-Za-z.]*): \S.*[^.]$")
SELF = "tests/style.py"

# Folders of engine/src/, lowest first, and what each may include: all of them lie above it in this table. "." are the
# files that lie in engine/src/ itself.
ARROWS = {
    "kernels": "",
    "base": "kernels",
    "backend": "kernels base",
    "checkpoint": "kernels base backend",
    "config": "base checkpoint",
    "tokenizer": "base config",
    "shape": "base config tokenizer",
    "chat": "base config tokenizer",
    "picture": "kernels base config",
    "model": "kernels base backend checkpoint config tokenizer chat picture",
    "forward": "base backend chat config model",
    "quantize": "kernels base backend checkpoint config model forward",
    ".": "base shape chat model forward",
}
# What contract/ includes: itself, the public header, the C library, GLib and Nettle.
CONTRACT = ("contract/", "glm4v/glm4v.h", "glib.h", "nettle/sha2.h", "math.h", "stdio.h", "stdbool.h", "stddef.h", "stdint.h",
            "string.h")


def tracked():
    out = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True)
    return [name for name in out.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def lines_of(files, suffixes):
    for name in files:
        if name.endswith(suffixes) or name == ".ci/run":
            text = (ROOT / name).read_bytes().decode("utf-8", "replace")
            for number, line in enumerate(text.split("\n"), 1):
                yield name, number, line


def strip_comments_and_strings(text):
    """The same number of lines, with comments and string contents blanked."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', blank, text, flags=re.S)


def code_lines(files, folders):
    for name in files:
        if name.startswith(folders) and name.endswith(CODE):
            text = strip_comments_and_strings((ROOT / name).read_text(errors="replace"))
            for number, line in enumerate(text.split("\n"), 1):
                yield name, number, line


def no_banned_call_in_engine_plugin_tools(files):
    for name, number, line in code_lines(files, ("engine/", "openai/", "contract/", "remote/", "gst-plugin/", "tools/")):
        match = BANNED.search(line)
        if match:
            yield f"{name}:{number}: {match.group(1)}()"


def memory_only_through_the_allocators(files):
    for name, number, line in code_lines(files, ("engine/", "openai/", "contract/", "remote/", "gst-plugin/", "tools/")):
        if name == "engine/src/base/mem.c":
            continue
        match = RAW_ALLOCATION.search(line) or VARIABLE_G_NEW.search(line)
        if match:
            yield f"{name}:{number}: {match.group(0)}"


def contract_includes_only_the_public_header_and_glib(files):
    for name in files:
        if name.startswith("contract/") and name.endswith(CODE):
            for number, line in enumerate((ROOT / name).read_text(errors="replace").split("\n"), 1):
                match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)', line)
                if match and not match.group(1).startswith(CONTRACT):
                    yield f"{name}:{number}: {line.strip()}"


def no_glib_below_the_plugin(files):
    for name, number, line in code_lines(files, ("engine/", "kernels/", "openai/", "remote/")):
        if re.search(r"#\s*include\s*<(glib|gst)", line):
            yield f"{name}:{number}: {line.strip()}"


def kernels_include_nothing_of_the_engine(files):
    for name in files:
        if name.startswith("kernels/") and name.endswith(CODE):
            for number, line in enumerate((ROOT / name).read_text(errors="replace").split("\n"), 1):
                if re.match(r'\s*#\s*include\s*[<"](\.\./engine|glm4v/|jansson|utf8proc)', line):
                    yield f"{name}:{number}: {line.strip()}"


# Folders beside the engine, lowest first: what each may include of the project, and of HTTP libraries.
SHARED_FOLDERS = {
    "openai": ("base/", "openai/", "glm4v/"),  # no HTTP library: server and client share it
    "remote": ("base/", "openai/", "remote/", "glm4v/", "curl/"),
}


def folders_beside_the_engine_include_only_what_the_table_allows(files):
    for name in files:
        allowed = SHARED_FOLDERS.get(name.split("/")[0])
        if allowed and name.endswith(CODE):
            for number, line in enumerate((ROOT / name).read_text(errors="replace").split("\n"), 1):
                match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)', line)
                if match and ("/" in match.group(1) or re.match("microhttpd|curl", match.group(1))) and \
                        not match.group(1).startswith(allowed):
                    yield f"{name}:{number}: {line.strip()}"


def folder_of(header):
    """Of what a source of the engine includes; nothing for public and other headers."""
    if "/" in header:
        return header.split("/")[0] if (ROOT / "engine/src" / header).is_file() else None
    return "." if (ROOT / "engine/src" / header).is_file() else "kernels" if (ROOT / "kernels" / header).is_file() else None


def engine_folders_include_only_what_the_table_allows(files):
    order = list(ARROWS)
    for folder, allowed in ARROWS.items():
        for other in allowed.split():
            if order.index(other) >= order.index(folder):
                yield f"{SELF}: ARROWS: {folder} -> {other} points up"
    for name in files:
        if name.startswith("engine/src/") and name.endswith(CODE):
            folder = name.split("/")[2] if name.count("/") > 2 else "."
            for number, line in enumerate((ROOT / name).read_text(errors="replace").split("\n"), 1):
                match = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
                other = folder_of(match.group(1)) if match else None
                if other and other != folder and other not in ARROWS.get(folder, "").split():
                    yield f"{name}:{number}: {folder} -> {other}"


def no_tab(files):
    for name, number, line in lines_of(files, SOURCE):
        if "\t" in line and not name.endswith(".tsv"):
            yield f"{name}:{number}: tab"


def no_trailing_space(files):
    for name, number, line in lines_of(files, SOURCE):
        if line != line.rstrip():
            yield f"{name}:{number}: trailing space"


def files_end_in_one_newline(files):
    for name in files:
        if name.endswith(SOURCE):
            data = (ROOT / name).read_bytes()
            if data and (not data.endswith(b"\n") or data.endswith(b"\n\n")):
                yield f"{name}: final newline"


def no_invisible_unicode(files):
    for name, number, line in lines_of(files, SOURCE):
        if INVISIBLE.search(line):
            yield f"{name}:{number}: U+{ord(INVISIBLE.search(line).group(0)):04X}"


def sources_name_their_licence(files):
    for name in files:
        if name.endswith(CODE + (".py", ".sh")):
            head = (ROOT / name).read_text(errors="replace")[:200]
            if "SPDX-License-Identifier: " not in head:
                yield f"{name}: no SPDX line"


def lines_fit_the_page(files):
    """100 columns for code, GStreamer's 80 in gst-plugin/, 130 for scripts. A wide character counts once."""
    for name, number, line in lines_of(files, CODE + (".sh", ".py", ".build")):
        most = 130 if not name.endswith(CODE) else 80 if name.startswith("gst-plugin/") else 100
        if len(line) > most:
            yield f"{name}:{number}: {len(line)} columns"


def markdown_fits_the_page(files):
    """120 characters, but for tables and for what a program printed (blocks without a language)."""
    for name in files:
        fence = printed = False
        for number, line in enumerate((ROOT / name).read_text(errors="replace").split("\n") if name.endswith(".md") else (), 1):
            if line.lstrip().startswith("```"):
                fence = not fence
                printed = fence and line.strip() == "```"
            if len(line) > 120 and not printed and not line.lstrip().startswith("|"):
                yield f"{name}:{number}: {len(line)} characters"


def clang_format_agrees(files):
    """gst-plugin/ has GStreamer's layout, which clang-format cannot make."""
    code = [name for name in files if name.endswith(CODE) and not name.startswith("gst-plugin/")]
    done = subprocess.run(["clang-format", "--dry-run", *code], cwd=ROOT, capture_output=True, text=True, check=True)
    yield from sorted({line.split(":")[0] for line in done.stderr.splitlines() if "clang-format-violations" in line})


# Beyond MOST_PARAMETERS: functions on rows have the signatures of kernels, pointers and sizes that one line of a loop hands
# over, and what is inlined into them has a few more. The other exceptions are callbacks of another library.
MOST_PARAMETERS = 6
ROW_FUNCTIONS = {"kernels/": 10, "engine/src/backend/forms.c": 8}
FOREIGN_SIGNATURES = {"on_log", "on_request"}  # GStreamer's GstLogFunction, libmicrohttpd's MHD_AccessHandlerCallback
SIGNATURE = re.compile(r"^(?:typedef )?[a-zA-Z_][\w \t*\n]*?[ *\n](\(\*?\w+\)|\w+) ?\(", re.M)


def parameters(text, at):
    """How many stand between the parenthesis that opens before `at` and its end."""
    depth, n = 1, 1
    while at < len(text) and depth:
        depth += (text[at] in "([{") - (text[at] in ")]}")
        n += text[at] == "," and depth == 1
        at += 1
    return n


def functions_have_few_parameters(files):
    seen = set()
    for name in files:
        if name.startswith(ALL_CODE) and name.endswith(CODE):
            text = strip_comments_and_strings((ROOT / name).read_text(errors="replace"))
            text = re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", lambda m: re.sub(r"[^\n]", " ", m.group(0)), text, flags=re.M)
            most = max([MOST_PARAMETERS] + [n for place, n in ROW_FUNCTIONS.items() if name.startswith(place)])
            for match in SIGNATURE.finditer(text):
                n, function = parameters(text, match.end()), match.group(1)
                if n > most and function in FOREIGN_SIGNATURES:
                    seen.add(function)
                elif n > most:
                    line = text.count("\n", 0, match.start(1)) + 1
                    yield f"{name}:{line}: {function}() has {n} parameters, at most {most}: give it a struct"
    if (ROOT / "engine/include/glm4v/glm4v.h").exists():
        for function in sorted(FOREIGN_SIGNATURES - seen):
            yield f"{SELF}: FOREIGN_SIGNATURES: {function}() is short now, take it out"


def nested_conditionals(text):
    """Where a `?` stands inside an operand of another one; text is without comments and strings."""
    open_at = [False]  # for each bracket around the place: whether a `?` was seen since the last comma or semicolon
    for at, char in enumerate(text):
        if char in "([{":
            open_at.append(False)
        elif char in ")]}" and len(open_at) > 1:
            open_at.pop()
        if char in ",;}":
            open_at[-1] = False
        elif char == "?":
            if any(open_at):
                yield at
            open_at[-1] = True


def no_conditional_operator_inside_another(files):
    """What chooses among more than two is a statement or a table."""
    for name in files:
        if name.startswith(ALL_CODE) and name.endswith(CODE):
            text = strip_comments_and_strings((ROOT / name).read_text(errors="replace"))
            text = re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", r"\g<0>;", text, flags=re.M)  # a directive ends with its line
            for at in nested_conditionals(text):
                yield f"{name}:{text.count(chr(10), 0, at) + 1}: ?: inside ?:"


def nothing_is_left_undone(files):
    for name, number, line in lines_of(files, CODE + (".py", ".sh", ".build")):
        if name != SELF and re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line):
            yield f"{name}:{number}: {line.strip()[:60]}"


def commit_subjects_name_component_and_effect(files):
    """72 columns are the aim, 90 the bound."""
    del files
    log = subprocess.run(["git", "-C", str(ROOT), "log", "--no-merges", "-n", "200", "--format=%h %s"],
                         capture_output=True, text=True, check=True)
    for line in log.stdout.splitlines():
        commit, _, subject = line.partition(" ")
        if len(subject) > 90 or not SUBJECT.match(subject):
            yield f"{commit}: {subject}"


RULES = [no_banned_call_in_engine_plugin_tools, memory_only_through_the_allocators, no_glib_below_the_plugin,
         kernels_include_nothing_of_the_engine, contract_includes_only_the_public_header_and_glib,
         folders_beside_the_engine_include_only_what_the_table_allows,
         engine_folders_include_only_what_the_table_allows,
         no_tab, no_trailing_space, files_end_in_one_newline,
         no_invisible_unicode, sources_name_their_licence, lines_fit_the_page, markdown_fits_the_page,
         clang_format_agrees,
         nothing_is_left_undone, functions_have_few_parameters, no_conditional_operator_inside_another,
         commit_subjects_name_component_and_effect]

BAD = {
    "engine/a.c": "#include <glib.h>\nvoid f(void)\t{ strcpy(a, b); /* TODO */ free(malloc(3)); } \n\n",
    "engine/src/base/low.c": '#include "model/high.h"\nint f(int a, int b, int c,\n      int d, int e, int g, int h)\n{\n'
                             "    return a ? b : (c ? d : e);\n}\n",
    "engine/src/model/high.h": "\n",
    "openai/d.c": "#include <microhttpd.h>\n",
    "contract/e.c": "#include <gst/gst.h>\n",
    "docs/c.md": "word " * 30 + "\n",
    "kernels/b.h": '#include "../engine/src/base/mem.h"\nint zero\u200bwidth;' + " " * 130 + "\n",
}


def rules_object_to_bad_files():
    """Names of the rules that let a tree of bad files pass."""
    global ROOT
    real = ROOT
    with tempfile.TemporaryDirectory() as folder:
        ROOT = pathlib.Path(folder)
        for name, text in BAD.items():
            (ROOT / name).parent.mkdir(parents=True)
            (ROOT / name).write_text(text)
        git = ["git", "-C", folder, "-c", "user.name=style", "-c", "user.email=style@localhost"]
        subprocess.run(git + ["init", "-q"], check=True)
        subprocess.run(git + ["add", "."], check=True)
        subprocess.run(git + ["commit", "-q", "-m", "Did things."], check=True)
        blind = [rule.__name__ for rule in RULES if not list(rule(list(BAD)))]
    ROOT = real
    return blind


def report(number, name, problems):
    for problem in problems[:40]:
        print("#", problem)
    print(f"{'not ' if problems else ''}ok {number} - {name}")
    return bool(problems)


def main():
    if not shutil.which("git") or not (ROOT / ".git").exists():
        print("1..0 # SKIP not a git checkout")
        return 0
    files = tracked()
    failed = report(1, "every_rule_objects_to_a_file_made_for_it", rules_object_to_bad_files())
    for number, rule in enumerate(RULES, 2):
        failed |= report(number, rule.__name__, list(rule(files)))
    print(f"1..{len(RULES) + 1}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
