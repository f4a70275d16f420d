#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plants a bug in a copy of a source: plant.py NAME SOURCE OUTPUT.

A fuzz target that is built with the copy must find the bug within the runs that it has for the real source: a fuzzer
that finds none of these finds nothing else either. So must ThreadSanitizer. A plant whose place is gone from the source
is an error: say it anew for the code that there is.
"""
import pathlib
import sys

# name: (source, in engine/src/ if no other folder is named; what is there; what stands there with the bug)
PLANTS = {
    # A frame that properties forbid has no result.
    "no-result": ("gst-plugin/gstglm4vsample.c", "    end_all (&jobs, GST_GLM4V_END_SETTINGS, why);\n", """\
    g_queue_clear_full (&jobs, (GDestroyNotify) gst_glm4v_job_unref);
    g_free (why);
    return;
"""),
    # The counters are read without the lock that guards them.
    "no-lock": ("gst-plugin/gstglm4vstatistics.c", """  g_mutex_lock (&self->lock);
  s = self->stats;
  unreadable = g_strdup (self->unreadable);
  g_mutex_unlock (&self->lock);
""", """  s = self->stats;
  unreadable = g_strdup (self->unreadable);
"""),
    # A shape of nine sizes is written over the end of the eight that a tensor has room for.
    "missing-bound": ("checkpoint/safetensors.c", "if (!shape || json_array_size(shape) > GLM4V_MAX_DIMS)", "if (!shape)"),
    # The last seven letters of a text are read as a whole word.
    "word-overflow": ("base/json_parse.c", "left - n >= sizeof word;", "left - n >= sizeof word - 1;"),
    # A character that the text's end cuts is read one byte beyond it.
    "off-by-one": ("base/utf8.c", "if ((size_t)i == len)", "if ((size_t)i > len)"),
    # A header that is refused keeps its JSON tree.
    "leak": ("checkpoint/safetensors.c", "    json_decref(root);\n    return rc ? rc : check_cover",
             "    if (!rc)\n        json_decref(root);\n    return rc ? rc : check_cover"),
    # A merge that is one word has no second half.
    "no-space": ("tokenizer/json.c", "        if (!space)\n            return false;\n", ""),
    # What is no number, or a negative one, is the id of a token.
    "negative-id": ("config/config.c", "if (id < 0 || id >= c->text.vocab)", "if (id >= c->text.vocab)"),
    # A string or array of a schema has room for one more than it says.
    "room-for-one": ("shape/automaton.c", "return node_of(s, v)->most < 0 || v->count < node_of(s, v)->most;",
                     "return node_of(s, v)->most < 0 || v->count <= node_of(s, v)->most;"),
    # The text of an index is kept.
    "kept-index": ("checkpoint/shards.c", "    glm4v_free(text);\n    if (!rc)\n        rc = count_files",
                   "    if (!rc)\n        rc = count_files"),
    # What is no text is the first choice of an answer.
    "choice-without-text": ("openai/shape.c", "        if (!text)\n            rc = openai_refuse",
                            "        if (!text && i)\n            rc = openai_refuse"),
    # Where bytes come apart between \r and \n, these are two ends of a line.
    "carriage-forgotten": ("openai/events.c", "    const receiver to = { take, user, err };\n",
                           "    const receiver to = { take, user, err };\n    e->carriage = false;\n"),
    # The last pixel of a row of RGB is read with one byte of the next, which the row above the first lacks.
    "row-too-short": ("tools/picture/png_plain.c", "pixels = cli_alloc(size + n + 1, 1);", "pixels = cli_alloc(size + n, 1);"),
    # A recorded temperature may be any.
    "any-temperature": ("tools/replay/record.c", "number >= 0 && number <= most", "number >= 0"),
    # A run of letters takes a call for each, and 64 of them the stack.
    "recursion": ("tokenizer/split.c", """    for (; most && c.kind == kind; most--) {
        i = c.end;
        c = at(text, len, i);
    }
    return i;
""", """    volatile char frame[16384] = { 0 };
    if (!most || c.kind != kind)
        return i;
    return run_end(text, len, c.end, kind, most - 1) + (size_t)frame[most % sizeof frame];
"""),
}


def main():
    name, source, output = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    file, old, new = PLANTS[name]
    text = source.read_text()
    path = file if file.startswith(("gst-plugin/", "openai/", "tools/")) else f"engine/src/{file}"
    if not source.as_posix().endswith(path) or text.count(old) != 1:
        sys.exit(f"plant.py: {name}: {source} has {text.count(old)} places (want 1 in {file}) that read\n{old}")
    output.write_text(text.replace(old, new))


if __name__ == "__main__":
    main()
