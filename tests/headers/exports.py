#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""exports.py HEADER LIBRARY: the library exports what the header declares, all of it and nothing else."""
import re
import subprocess
import sys

text = re.sub(r"/\*.*?\*/|//[^\n]*", "", open(sys.argv[1], encoding="utf-8").read(), flags=re.S)
declared = set(re.findall(r"GLM4V_API[^;]*?\b(glm4v_\w+)\s*\(", text))
listed = subprocess.run(["nm", "-D", "--defined-only", sys.argv[2]], capture_output=True, text=True, check=True).stdout
exported = {line.split()[-1].split("@")[0] for line in listed.splitlines() if line.split()[-2] in "TDBRVW"}
exported -= {"_init", "_fini"}
failed = 0
for number, (name, wrong) in enumerate((("every_declared_function_is_exported", declared - exported),
                                        ("nothing_else_is_exported", exported - declared),
                                        ("the_header_declares_about_30_functions", {str(len(declared))} if
                                         not 15 <= len(declared) <= 35 else set())), 1):
    for symbol in sorted(wrong):
        print("#", symbol)
    failed += bool(wrong)
    print("%sok %d - %s" % ("not " if wrong else "", number, name))
print("1..3")
sys.exit(bool(failed))
