#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a program with the filter of system calls of a unit of systemd, without systemd: system_call_filter.py UNIT
PROGRAM [ARGUMENT...]. Other calls than those of SystemCallFilter= end the program, whatever SystemCallErrorNumber= says:
they would fail in the service."""
import ctypes
import os
import subprocess
import sys

ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000  # seccomp.h


def sets_of_calls():
    """Names of system calls and of other sets by the name of their set."""
    sets, name = {}, None
    shown = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
    for line in shown.splitlines():
        word = line.strip()
        if line.startswith("@"):
            name = word
            sets[name] = []
        elif line.startswith(" ") and word and not word.startswith("#"):
            sets[name].append(word)
    return sets


def allowed_calls(unit):
    sets = sets_of_calls()

    def calls(word):
        return set().union(*map(calls, sets[word])) if word.startswith("@") else {word}

    allowed = set()
    for line in open(unit):
        if line.startswith("SystemCallFilter="):
            words = line.split("=", 1)[1].strip()
            named = set().union(*map(calls, words.lstrip("~").split()))
            allowed = allowed - named if words.startswith("~") else allowed | named
    return allowed


def filter_calls(allowed):
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    lib.seccomp_load.argtypes = [ctypes.c_void_p]
    rules = lib.seccomp_init(ctypes.c_uint32(KILL_PROCESS))
    for name in allowed:
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number >= 0 and lib.seccomp_rule_add(rules, ALLOW, number, 0):
            sys.exit(f"no rule for {name}")
    if not allowed or lib.seccomp_load(rules):
        sys.exit("no filter")


filter_calls(allowed_calls(sys.argv[1]))
os.execvp(sys.argv[2], sys.argv[2:])
