#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Installs what is missing, builds, runs the tests, counts. The last line is
#     N passed, N failed, N skipped
# over every TAP line of every program that ran; the exit status is 0 only when nothing failed.
#
#   tests/run.sh            style, plain, asan and fuzz: what a submission must pass
#   tests/run.sh JOB...     any of the jobs below
#   style      rules of the source tree (tests/style.py)
#   plain      build/         every suite
#   asan       build-asan/    every suite under AddressSanitizer, LeakSanitizer, UBSan; of pipeline: sanitized. Less of
#              the sweeps, the reference vectors and the replayed inputs than plain: CONTRIBUTING.md
#   fuzz       build-fuzz/    libFuzzer (clang) from the committed corpora, and the bugs planted for it to find
#   tsan       build-tsan/    unit, engine and element suites under ThreadSanitizer (clang)
#   pipeline   build-asan/    the whole suite pipeline under these sanitizers
#   clang      build-clang/   every suite, compiled by clang
#   release    build-release/ every suite, -O3, assertions off
#   werror     build-werror/  compiles with -Werror, runs nothing
#   valgrind   build/         unit and engine suites under memcheck
#   coverage   build-coverage/ prints what the fuzz corpora alone reach of each parser, and which tests the rest
#   deep       build/, build-asan/, build-fuzz/    the long counts: with GLM4V_DEEP=1 every program that then counts
#              further, under AddressSanitizer but for the kills of a large conversion, and fuzz
# Environment: GLM4V_GOLDEN (reference vectors), GLM4V_REQUIRE (words: gpu golden model clients browser; a missing one
# fails).
set -u
cd "$(dirname "$0")/.." || exit 1
jobs=${*:-style plain asan fuzz}
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
broken=0

say() { printf '\n== %s\n' "$*"; }

# The part of the plugin for frames in memory of a GPU is compiled where CUDA is. Nothing links what is found here.
if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
    gst_cuda() {
        local path
        path=$(bash tools/gst-cuda-headers.sh build-gst-cuda) ||
            { echo "left out: frames in memory of a GPU"; return 0; }
        export PKG_CONFIG_PATH=$path${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
    }
else
    gst_cuda() { :; }
fi

# build DIR OPTION...: configures once, compiles: all, or $target where that is set. A folder that quickstart.sh
# configured, before the packages of the tests were there, is configured again.
build() {
    local dir=$1
    shift
    if [ ! -f "$dir/build.ninja" ]; then
        meson setup "$dir" "$@" >"$results/setup.log" 2>&1 ||
            { tail -n 30 "$results/setup.log"; return 1; }
    elif [ ! -f "$dir/.configured-for-tests" ]; then
        meson setup --reconfigure "$dir" >"$results/setup.log" 2>&1 ||
            { tail -n 30 "$results/setup.log"; return 1; }
    fi
    touch "$dir/.configured-for-tests"
    ninja -C "$dir" ${target:+"$target"} >"$results/ninja.log" 2>&1 ||
        { grep -E 'error|FAILED' -A 5 "$results/ninja.log" | head -n 60; return 1; }
    grep -cE 'warning:' "$results/ninja.log" | sed 's/^/compiler warnings: /'
}

# suites JOB DIR OPTION...: runs meson's tests there and keeps their log for counting. One process more than there are
# cores: many tests wait for a camera, a server or a time.
suites() {
    local job=$1 dir=$2
    shift 2
    rm -f "$dir"/meson-logs/testlog*.json
    meson test -C "$dir" --no-rebuild --print-errorlogs --num-processes $(($(nproc) + 1)) "$@" 2>&1 |
        grep -vE '^(ninja|Full log|$)' | tail -n 400
    cat "$dir"/meson-logs/testlog*.json >"$results/$job.json" 2>/dev/null ||
        { echo "no test log in $dir"; return 1; }
}

sanitizer_environment() {
    export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:strict_string_checks=1
    ASAN_OPTIONS=$ASAN_OPTIONS:detect_stack_use_after_return=1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    export LSAN_OPTIONS=suppressions=$PWD/tests/support/lsan.supp:print_suppressions=0
    export TSAN_OPTIONS=suppressions=$PWD/tests/support/tsan.supp:halt_on_error=0:exitcode=66:allocator_may_return_null=1
    # The registry helper process is not sanitized and could not load a sanitized plugin.
    export GST_REGISTRY_FORK=no
    # GLib's slices and delayed frees hide leaks and late reads.
    export G_SLICE=always-malloc
}

job_style() { python3 tests/style.py | tee "$results/style.tap"; [ "${PIPESTATUS[0]}" = 0 ] || true; }
job_plain() { build build && suites plain build; }
# Reports of sanitizers need lines, not variables, and these take a fifth of the compiler's time.
build_asan() { build build-asan -Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-g1; }
# sanitized JOB MULTIPLIER SUITES GLIB_SUITES GLIB_OPTIONS: tests in build-asan/, those that use GLib apart.
sanitized() {
    local job=$1 multiplier=$2 plain=$3 glib=$4 glib_options=$5
    build_asan || return 1
    (
        sanitizer_environment
        # shellcheck disable=SC2086
        suites "$job" build-asan --timeout-multiplier "$multiplier" $plain || exit 1
        ASAN_OPTIONS=$ASAN_OPTIONS:$glib_options
        # shellcheck disable=SC2086
        suites "$job-glib" build-asan --timeout-multiplier "$multiplier" $glib
    )
}
# GLib has no frame pointers: only the slow unwinder sees past g_malloc, which suppressions of leaks need. Each frame of
# each allocation costs it time: those twelve that suppressions need are half of all.
job_asan() {
    sanitized asan 6 "--no-suite element --no-suite pipeline" "--suite element --suite sanitized" \
        fast_unwind_on_malloc=0:malloc_context_size=12
}
job_pipeline() {
    build_asan || return 1
    (sanitizer_environment
        ASAN_OPTIONS=$ASAN_OPTIONS:fast_unwind_on_malloc=0
        suites pipeline build-asan --timeout-multiplier 6 --suite pipeline)
}
# fuzzing JOB OPTION...: libFuzzer's runs in build-fuzz/.
fuzzing() {
    local job=$1
    shift
    CC=clang target=fuzz-programs build build-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false \
        -Dc_args=-g1 &&
        suites "$job" build-fuzz "$@" --suite fuzzing
}
job_fuzz() { fuzzing fuzz; }
job_coverage() {
    CC=clang target=coverage-programs build build-coverage -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false \
        -Dc_args='-fprofile-instr-generate -fcoverage-mapping' -Dc_link_args=-fprofile-instr-generate &&
        python3 tests/fuzz/coverage.py build-coverage
}
job_deep() {
    export GLM4V_DEEP=1
    # Converters on a disk would mostly wait for it.
    if [ "$(df --output=avail -BM /dev/shm 2>/dev/null | tail -n 1 | tr -dc 0-9)" -ge 6000 ] 2>/dev/null; then
        export TMPDIR=/dev/shm
    fi
    { build build && suites deep-plain build --timeout-multiplier 60 --suite deep-plain; } || return 1
    # Leaks of the element are what the asan job looks for. Here GLib's pool threads end while it is at work, and what
    # GLib keeps for each thread is then told as a leak now and then.
    sanitized deep 60 "--suite deep" "--suite deep-element" fast_unwind_on_malloc=1:detect_leaks=0 || return 1
    fuzzing deep-fuzz --timeout-multiplier 10
}
job_tsan() {
    CC=clang build build-tsan -Db_sanitize=thread -Db_lundef=false &&
        (sanitizer_environment
            suites tsan build-tsan --timeout-multiplier 15 --suite unit --suite engine --suite element)
}
job_clang() { CC=clang build build-clang && suites clang build-clang; }
job_release() { build build-release --buildtype=release && suites release build-release; }
job_werror() { build build-werror --werror; }
job_valgrind() {
    local options="--error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite -q"
    build build && suites valgrind build --timeout-multiplier 40 --suite unit --suite engine \
        --wrapper "valgrind $options '--suppressions=$PWD/tests/support/valgrind.supp'"
}

packages="build run test"
case " $jobs " in *" style "*) packages="$packages style" ;; esac
case " $jobs " in *" clang "* | *" tsan "* | *" fuzz "* | *" deep "*) packages="$packages clang" ;; esac
case " $jobs " in *" coverage "*) packages="$packages clang coverage" ;; esac
case " $jobs " in *" valgrind "*) packages="$packages valgrind" ;; esac
# shellcheck disable=SC2086
bash tools/install-packages.sh $packages || exit 1

gst_cuda
for job in $jobs; do
    if ! declare -F "job_$job" >/dev/null; then
        sed -n 's/^#   //p' "$0"
        echo "unknown job: $job" >&2
        exit 2
    fi
    say "$job"
    start=$SECONDS
    "job_$job" || { echo "job $job could not run"; broken=1; }
    echo "$job: $((SECONDS - start)) s"
done

say "all jobs"
python3 tests/support/count.py --extra-failures "$broken" "$results"
