#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices from the outside: plans, limits and figures on GPUs that a module of ours shows, and machines without one."""
import json
import shutil
import tempfile

from common import BUILD, EXAMPLES, GLM4V, SOURCE, check, environment, good, main, run, tiny_model

BASE = tempfile.mkdtemp(prefix="glm4v-devices-")
CONFIG = SOURCE / "tests" / "data" / "glm-4.1v-9b" / "config.json"
PICTURE = EXAMPLES / "known-sheet.png"
MODEL = None


def with_gpus(*words, status=0, **values):
    """glm4v on a machine with two GPUs of 8 GiB, which are the CPU in truth."""
    env = environment(GLM4V_CUDA_MODULE=BUILD / "tests" / "engine" / "fake-cuda-module.so",
                      **{"FAKE_CUDA_MIB": 8192, "FAKE_CUDA": "", **values})
    return good(run([GLM4V, *words], env=env), status)


def plan(*words, **values):
    return json.loads(with_gpus("inspect", "--json", *words, CONFIG, **values).stdout)["plan"]


def taken(device):
    return device["weights"] + device["kv_cache"] + device["scratch"]


def inspect_prints_the_plan_of_each_device(folder):
    told = plan("--device", "cuda,cpu", "--quantization", "int8")
    gpu, cpu = told["devices"]
    check(told["quantization"] == "int8" and (gpu["device"], cpu["device"]) == ("cuda:0", "cpu"), told)
    check((gpu["gpu"], gpu["compute_capability"], gpu["memory"]) == ("Fake GPU", "9.0", 96 << 30), gpu)
    check(gpu["first_layer"] == 0 and cpu["first_layer"] == gpu["layers"] and gpu["layers"] + cpu["layers"] == 40, told)
    check(gpu["vision"] and gpu["embedding"] and not gpu["head"] and cpu["head"] and not cpu["vision"], told)
    check(taken(gpu) <= gpu["room"] <= 8 << 30 and "gpu" not in cpu, told)
    text = with_gpus("inspect", "--device", "cuda,cpu", "--quantization", "int8", CONFIG).stdout
    for part in ("plan, int8", "Fake GPU, compute capability 9.0, 96.0 GiB", "vision, embedding", "head",
                 "available on cuda:0"):
        check(part in text, part, text)


def a_limit_moves_layers_to_the_cpu(folder):
    layers = [plan("--device", "cuda,cpu", "--quantization", "int8", *words)["devices"][0]["layers"]
              for words in ([], ["--gpu-memory-limit", "6GiB"], ["--gpu-memory-limit=5.5 GB"])]
    check(layers[0] > layers[1] > layers[2] > 0, layers)


def layers_lie_where_they_are_told(folder):
    told = plan("--layers", "cuda:1=0-9,cpu=10-39")["devices"]
    check([(device["device"], device["layers"]) for device in told] == [("cuda:1", 10), ("cpu", 30)], told)


def fits_is_said_of_the_named_device(folder):
    rows = json.loads(with_gpus("inspect", "--json", "--device", "cuda", CONFIG).stdout)["memory"]
    fits = {row["quantization"]: row["fits"] for row in rows if "fits" in row}
    check(not fits["as stored"] and not fits["int8"] and fits["int4,embedding=int8,lm-head=int4"], fits)


def wrong_values_are_refused_before_anything_is_done(folder):
    for words in (["--gpu-memory-limit", "6Gi"], ["--gpu-memory-limit", "0"], ["--gpu-memory-limit", "-1GiB"],
                  ["--gpu-memory-limit", "much"], ["--device", "tpu"], ["--layers", "cuda:0"], ["--layers", "cpu=0-9"],
                  ["--device", "cuda", "--layers", "cpu=0-1"]):
        for command in (["inspect", MODEL], ["bench", "--model", MODEL], ["describe", "--model", MODEL, PICTURE]):
            done = with_gpus(*command, *words, status=2)
            check(done.stderr and not done.stdout, command, words, done)
    check("expected" in with_gpus("inspect", "--quantization", "int5", MODEL, status=2).stderr)


def describe_answers_the_same_wherever_its_layers_lie(folder):
    texts = {with_gpus("describe", "--model", MODEL, "--max-tokens", "8", *words, PICTURE).stdout
             for words in (["--device", "cpu"], ["--device", "cuda"], ["--device", "cuda:0,cuda:0"],
                           ["--layers", "cuda:0=0,cpu=1"])}
    check(len(texts) == 1 and len(texts.pop()) > 1, texts)


def bench_measures_the_device_that_it_runs_on(folder):
    words = ("bench", "--model", MODEL, "--frame", "112x112", "--tokens", "4", "--runs", "2")
    told = json.loads(with_gpus(*words, "--device", "cuda", "--json").stdout)
    (gpu,) = told["devices"]
    check((gpu["device"], gpu["gpu"], gpu["measured_gb_per_s"]) == ("cuda:0", "Fake GPU", 2000), gpu)
    check(told["decode"]["measured_gb_per_s"] == 2000 and told["decode"]["percent_of_measured"] > 0, told["decode"])
    check(told["memory"]["device_peak"] == gpu["peak"] == 1 << 20, told["memory"])  # what this module says
    check(told["vision_tflops"] > 0 and told["prefill_tflops"] > 0, told)
    check(told["measured_tflops"] == gpu["measured_tflops"] == 500, told)
    check("measured_tflops" not in with_gpus(*words, "--device", "cuda", "--json", FAKE_CUDA="product").stdout)
    told = json.loads(with_gpus(*words, "--layers", "cuda:0=0,cpu=1", "--json").stdout)
    check([device["device"] for device in told["devices"]] == ["cuda:0", "cpu"], told["devices"])
    check(all(device["measured_gb_per_s"] > 0 for device in told["devices"]), told["devices"])
    check("percent_of_measured" not in told["decode"] and told["decode"]["read_gb_per_s"] > 0, told["decode"])
    text = with_gpus(*words, "--device", "cuda").stdout
    check("Fake GPU" in text and "of 2000.00 GB/s measured in this run" in text, text)
    check(text.count("% of 500.0 TFLOP/s of bf16 measured in this run") == 2, text)
    check("measure failed as asked" in with_gpus(*words, "--device", "cuda", status=3, FAKE_CUDA="measure").stderr)


def on_the_cpu_nothing_is_said_of_gpus(folder):
    told = json.loads(with_gpus("bench", "--model", MODEL, "--frame", "112x112", "--tokens", "4", "--runs", "1",
                                "--device", "cpu", "--json").stdout)
    check(told["memory"]["device_peak"] is None and told["decode"]["measured_gb_per_s"] > 0, told)
    check([device["device"] for device in told["devices"]] == ["cpu"] and "gpu" not in told["devices"][0], told)


def a_gpu_that_is_not_there_is_an_error_and_auto_does_without(folder):
    done = with_gpus("inspect", "--device", "cuda:5", MODEL, status=3)
    check("there is no cuda:5" in done.stderr and "cpu" in done.stderr, done.stderr)
    done = with_gpus("inspect", "--device", "cuda", MODEL, status=3, FAKE_CUDA="examine")
    check("examine failed as asked" in done.stderr, done.stderr)
    told = json.loads(with_gpus("inspect", "--json", MODEL, FAKE_CUDA="examine").stdout)["plan"]["devices"]
    check([device["device"] for device in told] == ["cpu"], told)


def gpus_are_looked_for_only_where_a_device_may_be_one(folder):
    """The module is opened neither for a look at the plugin nor for a model on the CPU; the loader tells what it opens."""
    module = BUILD / "tests" / "engine" / "fake-cuda-module.so"
    asks = "videotestsrc num-buffers=1 ! glm4vdescribe max-tokens=2 model-location={} device={} ! fakesink"

    def opens(*words):
        env = environment(True, GLM4V_CUDA_MODULE=module, FAKE_CUDA_MIB=8192, LD_DEBUG="files",
                          GST_REGISTRY=folder / "registry.bin")
        done = good(run(["bash", "-c", "exec " + " ".join(map(str, words))], env=env))
        check("libglm4v.so" in done.stderr, done.stderr[-500:])
        return module.name in done.stderr

    check(not opens("gst-inspect-1.0", "glm4vdescribe"), "opened by a look at the plugin")
    for device in ("cpu", "cuda"):
        words = ["--model", MODEL, "--device", device, "--max-tokens", 2, PICTURE]
        check(opens(GLM4V, "describe", *words) == (device == "cuda"), device)
        check(opens("gst-launch-1.0", asks.format(MODEL, device)) == (device == "cuda"), device)


if __name__ == "__main__":
    MODEL = tiny_model(BASE)
    try:
        main([inspect_prints_the_plan_of_each_device, a_limit_moves_layers_to_the_cpu, layers_lie_where_they_are_told,
              fits_is_said_of_the_named_device, wrong_values_are_refused_before_anything_is_done,
              describe_answers_the_same_wherever_its_layers_lie, bench_measures_the_device_that_it_runs_on,
              on_the_cpu_nothing_is_said_of_gpus, a_gpu_that_is_not_there_is_an_error_and_auto_does_without,
              gpus_are_looked_for_only_where_a_device_may_be_one])
    finally:
        shutil.rmtree(BASE, ignore_errors=True)
