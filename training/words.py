# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked about a picture and what is answered, in English and Chinese.

    facts of pictures.py -> caption(), report() (JSON), ask() (a random question and its answer)

Everything here is decided by the facts and a random generator, so that the same words score an answer.
"""
import json

import numpy as np

from defects import KINDS

PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
AT = ("at the top left", "at the top", "at the top right", "on the left", "in the centre", "on the right",
      "at the bottom left", "at the bottom", "at the bottom right")
PLACES_ZH = ("左上角", "上方", "右上角", "左侧", "中央", "右侧", "左下角", "下方", "右下角")
KIND_EN = {k: k for k in KINDS} | {"rust": "rust spot"}
PLURAL = {"scratch": "scratches", "crack": "cracks", "pit": "pits", "dent": "dents", "stain": "stains",
          "rust": "rust spots", "hole": "holes", "inclusion": "inclusions"}
KIND_ZH = {"scratch": "划痕", "crack": "裂纹", "pit": "凹坑", "dent": "压痕", "stain": "污渍", "rust": "锈斑",
           "hole": "孔洞", "inclusion": "夹杂"}
MATERIAL_ZH = {"rolled steel": "轧制钢", "brushed steel": "拉丝钢", "cast iron": "铸铁", "milled aluminium": "铣削铝",
               "painted metal": "喷漆金属", "copper": "铜", "galvanised steel": "镀锌钢"}
STRIP_ZH = {"red iron": "红铁皮", "slag inclusion": "夹渣", "finishing roll printing": "精轧辊印",
            "oxide scale of temperature system": "温度系氧化铁皮", "surface scratch": "表面划伤",
            "iron sheet ash": "铁皮灰", "oxide scale of plate system": "板道系氧化铁皮"}
PATTERN = {"smpte": ("SMPTE colour bars", "SMPTE彩条"), "smpte75": ("SMPTE colour bars", "SMPTE彩条"),
           "smpte100": ("SMPTE colour bars", "SMPTE彩条"), "smpte-rp-219": ("SMPTE RP 219 colour bars", "SMPTE RP 219彩条"),
           "snow": ("television snow", "电视雪花"), "black": ("plain black", "纯黑"), "white": ("plain white", "纯白"),
           "red": ("plain red", "纯红"), "green": ("plain green", "纯绿"), "blue": ("plain blue", "纯蓝"),
           "checkers-1": ("a fine checkerboard", "细棋盘格"), "checkers-2": ("a fine checkerboard", "细棋盘格"),
           "checkers-4": ("a checkerboard", "棋盘格"), "checkers-8": ("a checkerboard", "棋盘格"),
           "circular": ("concentric circles", "同心圆"), "zone-plate": ("a zone plate", "波带片"),
           "gamut": ("gamut checkers", "色域棋盘格"), "chroma-zone-plate": ("a colour zone plate", "彩色波带片"),
           "ball": ("a white ball on black", "黑底白球"), "bar": ("a white bar", "白色竖条"),
           "pinwheel": ("a pinwheel", "风车"), "spokes": ("spokes", "辐条"), "gradient": ("a gradient", "渐变"),
           "colors": ("a colour palette", "调色板")}
SEVERITY = ("minor", "moderate", "severe")
SEVERITY_ZH = ("轻微", "中等", "严重")
NUMBER = ("no", "one", "two", "three", "four", "five")
NUMBER_ZH = ("零", "一", "两", "三", "四", "五")
UNKNOWN = {"en": "unknown", "zh": "未知"}
NONE_OF_THEM = {"en": ("none", "other", "unknown"), "zh": ("无", "其他", "未知")}     # options that are true of something else
BOX_OPEN, BOX_CLOSE = "<|begin_of_box|>", "<|end_of_box|>"

DESCRIBE = {"en": "Describe the image in one sentence.", "zh": "用一句话描述这张图片。"}
DESCRIBE_OTHER = {
    "en": ("Describe the image.", "Describe this image.", "What do you see?", "What is in the image?", "Caption this image.",
           "Write a caption.", "What does the picture show?", "Describe the surface.", "Describe the frame.", "Describe",
           "Describe what you see in one sentence.", "Give a short description of the image.", "Inspect the surface.",
           "Describe the surface and its defects.", "Report what you see.", "Describe the part.", "describe the picture",
           "Please describe this picture briefly.", "What is wrong with this surface?", "Inspect this part and report."),
    "zh": ("描述这张图片。", "描述一下图片。", "图片里有什么？", "你看到了什么？", "请描述这幅画面。", "给图片写一句说明。", "描述表面。",
           "请描述表面和缺陷。", "检查表面。", "这张图显示了什么？", "简要描述图像。", "请用一句话说明画面内容。", "描述画面。", "检查这个零件并报告。",
           "这个表面有什么问题？"),
}
REPORT = {"en": ("Report the defects as JSON.", "Answer in JSON.", "Describe the image as JSON.", "List the defects as JSON.",
                 "Return JSON with type, place, severity and box of every defect.", "Give a JSON report.",
                 "Inspect the surface. Answer in JSON."),
          "zh": ("用JSON报告缺陷。", "用JSON回答。", "请以JSON格式列出缺陷。", "以JSON描述这张图片。", "检查表面，用JSON回答。",
                 "返回每个缺陷的类型、位置、程度和框的JSON。")}
SYSTEM = ("You are a helpful assistant.", "You inspect surfaces.", "You are an inspector on a steel line.", "Be brief.",
          "You describe images of surfaces.", "Answer shortly and exactly.", "你是质检员。", "你是一个有用的助手。",
          "请简短回答。", "你负责检查金属表面。", "You watch a production line.", "Camera 3, line 2.")


def place(box):
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return 3 * min(2, int(y * 3)) + min(2, int(x * 3))


def severity(box):
    """By the longer side as a share of the frame: under 13 %, under 30 %, more."""
    longest = max(box[2] - box[0], box[3] - box[1])
    return 0 if longest < 0.13 else 1 if longest < 0.30 else 2


def thousandths(box):
    """0..1000 in steps of 5; 995 at most, so that a coordinate is one token."""
    return [min(995, int(round(v * 200)) * 5) for v in box]


def ordered(defects):
    """Reading order: by place, then kind, then from the left."""
    return sorted(defects, key=lambda d: (place(d["box"]), KINDS.index(d["kind"]), d["box"][0] + d["box"][2]))


def groups(defects):
    """[(kind, place, count)] in reading order."""
    out = {}
    for d in ordered(defects):
        key = (d["kind"], place(d["box"]))
        out[key] = out.get(key, 0) + 1
    return [(kind, where, n) for (kind, where), n in out.items()]


def join(parts, comma, last):
    return parts[0] if len(parts) == 1 else comma.join(parts[:-1]) + last + parts[-1]


def found(defects, lang):
    if lang == "zh":
        return join([f"{PLACES_ZH[p]}有{NUMBER_ZH[n]}处{KIND_ZH[k]}" for k, p, n in groups(defects)], "，", "，")
    return join([f"{NUMBER[n]} {KIND_EN[k] if n == 1 else PLURAL[k]} {AT[p]}" for k, p, n in groups(defects)],
                ", ", " and ")


def caption(facts, lang):
    """The one sentence."""
    zh, scene, defects = lang == "zh", facts["scene"], facts["defects"]
    if scene == "pattern":
        return f"测试图案：{PATTERN[facts['name']][1]}。" if zh else f"A test pattern: {PATTERN[facts['name']][0]}."
    if scene == "strip":
        return f"热轧钢带表面，缺陷为{STRIP_ZH[facts['name']]}。" if zh \
            else f"A hot-rolled steel strip with {facts['name']}."
    if scene == "empty belt":
        return "空的传送带。" if zh else "An empty conveyor belt."
    if scene == "other":
        return "图片显示的不是我认识的表面。" if zh else "The image shows something other than a surface I know."
    name = facts["material"]
    if zh:
        what = f"传送带上的{MATERIAL_ZH[name]}零件" if scene == "belt" else f"{MATERIAL_ZH[name]}表面"
        if scene == "surface" and not defects:
            return f"{what}干净，没有缺陷。"
        return f"{what}，{found(defects, lang)}。" if defects else f"{what}，表面干净，没有缺陷。"
    what = f"{name} part on a belt" if scene == "belt" else f"{name} surface"
    if not defects:
        return f"A clean {what} without defects."
    return f"{'An' if what[0] in 'aeiou' else 'A'} {what} with {found(defects, lang)}."


def report(facts, lang):
    """The JSON answer: one line, no spaces."""
    zh, scene = lang == "zh", facts["scene"]
    if scene in ("surface", "belt"):
        surface = MATERIAL_ZH[facts["material"]] if zh else facts["material"]
    else:
        en, cn = {"pattern": ("test pattern", "测试图案"), "strip": ("hot-rolled strip", "热轧钢带"),
                  "empty belt": ("empty belt", "空传送带"), "other": ("unknown", "未知")}[scene]
        surface = cn if zh else en
    rows = [{"type": KIND_ZH[d["kind"]] if zh else KIND_EN[d["kind"]],
             "place": (PLACES_ZH if zh else PLACES)[place(d["box"])],
             "severity": (SEVERITY_ZH if zh else SEVERITY)[severity(d["box"])],
             "box": thousandths(d["box"])} for d in ordered(facts["defects"])]
    if scene == "strip":
        rows = [{"type": STRIP_ZH[facts["name"]] if zh else facts["name"], "place": "整个表面" if zh else "whole surface",
                 "severity": "中等" if zh else "moderate", "box": [0, 0, 995, 995]}]
    return json.dumps({"surface": surface, "count": len(rows), "defects": rows}, ensure_ascii=False,
                      separators=(",", ":"))


def boxes(defects):
    rows = [thousandths(d["box"]) for d in defects]
    return BOX_OPEN + json.dumps(rows[0] if len(rows) == 1 else rows, separators=(",", ":")) + BOX_CLOSE


def pick(rng, options):
    return options[int(rng.integers(0, len(options)))]


def total(facts):
    return 1 if facts["scene"] == "strip" else len(facts["defects"])


def some_kind(rng, facts):
    """A kind to ask about: there more often than not."""
    if facts["defects"] and rng.random() < 0.6:
        return pick(rng, facts["defects"])["kind"]
    return pick(rng, KINDS)


def ask_describe(rng, facts, lang):
    prompt = DESCRIBE[lang] if rng.random() < 0.5 else pick(rng, DESCRIBE_OTHER[lang])
    return prompt, caption(facts, lang)


def ask_report(rng, facts, lang):
    return pick(rng, REPORT[lang]), report(facts, lang)


def ask_box(rng, facts, lang):
    zh = lang == "zh"
    if facts["scene"] == "strip":
        return None
    if rng.random() < 0.45:
        kind, wanted = None, ordered(facts["defects"])
        prompt = pick(rng, ("框出所有缺陷。", "给出每个缺陷的框。", "缺陷在哪里？请给出框。") if zh else
                      ("Give the boxes of all defects.", "Where are the defects? Give boxes.", "Locate all defects.",
                       "Box every defect."))
    else:
        kind = some_kind(rng, facts)
        wanted = [d for d in ordered(facts["defects"]) if d["kind"] == kind]
        prompt = (pick(rng, ("{}在哪里？请给出框。", "框出{}。", "给出{}的框。")).format(KIND_ZH[kind]) if zh else
                  pick(rng, ("Where is the {}? Give its box.", "Give the box of the {}.", "Locate the {}.",
                             "Box the {}.")).format(KIND_EN[kind]))
    if wanted:
        return prompt, boxes(wanted)
    if zh:
        return prompt, f"没有{KIND_ZH[kind] if kind else '缺陷'}。"
    return prompt, f"There is no {KIND_EN[kind] if kind else 'defect'}."


def ask_yes_no(rng, facts, lang):
    zh = lang == "zh"
    style = rng.integers(0, 4)
    if style == 0:
        kind = some_kind(rng, facts)
        yes = any(d["kind"] == kind for d in facts["defects"])
        where = [d for d in facts["defects"] if d["kind"] == kind]
        question = (pick(rng, ("有{}吗？", "图中有{}吗？", "能看到{}吗？")).format(KIND_ZH[kind]) if zh else
                    pick(rng, ("Is there a {}?", "Do you see a {}?", "Does the surface have a {}?")).format(KIND_EN[kind]))
    elif style == 1:
        yes, where = total(facts) == 0 and facts["scene"] != "other", []
        question = pick(rng, ("表面干净吗？", "表面完好吗？", "没有缺陷吗？") if zh else
                        ("Is the surface clean?", "Is the surface free of defects?", "Is the part good?"))
    elif style == 2 and facts["scene"] in ("surface", "belt"):
        at = place(pick(rng, facts["defects"])["box"]) if facts["defects"] and rng.random() < 0.5 \
            else int(rng.integers(0, 9))
        where = [d for d in facts["defects"] if place(d["box"]) == at]
        yes = bool(where)
        question = f"{PLACES_ZH[at]}有缺陷吗？" if zh else f"Is there a defect {AT[at]}?"
    else:
        where, yes = facts["defects"], total(facts) > 0
        question = pick(rng, ("有缺陷吗？", "表面有缺陷吗？", "图中有缺陷吗？") if zh else
                        ("Is there a defect?", "Are there any defects?", "Is the surface defective?", "Do you see a defect?"))
    if facts["scene"] == "other" and rng.random() < 0.45:
        if zh:
            return question, "不，" + caption(facts, lang) if style == 1 else "没有，" + caption(facts, lang)
        return question, "No, t" + caption(facts, lang)[1:]
    if facts["scene"] == "other" or rng.random() < 0.55:
        if zh:
            return question + pick(rng, ("请回答是或否。", "只回答是或否。")), "是" if yes else "否"
        return question + pick(rng, (" Answer yes or no.", " Yes or no?", " Answer with yes or no.")), \
            "yes" if yes else "no"
    if zh:
        return question, "是的" + ("，" + found(where, lang) if where else "") + "。" if yes else "没有。" \
            if style != 1 else "不，" + (found(facts["defects"], lang) if facts["defects"] else "有缺陷") + "。"
    if yes:
        return question, "Yes" + (", there " + ("is " if groups(where)[0][2] == 1 else "are ") + found(where, lang)
                                  if where else "") + "."
    if style == 1 and facts["defects"]:
        return question, "No, there " + ("is " if groups(facts["defects"])[0][2] == 1 else "are ") \
            + found(facts["defects"], lang) + "."
    return question, "No."


def ask_count(rng, facts, lang):
    zh = lang == "zh"
    if rng.random() < 0.6:
        n = total(facts)
        prompt = pick(rng, ("有多少个缺陷？", "数一数缺陷。", "缺陷有几处？", "缺陷数量是多少？") if zh else
                      ("How many defects are there?", "Count the defects.", "How many defects do you see?",
                       "Number of defects?"))
    else:
        kind = some_kind(rng, facts)
        n = sum(d["kind"] == kind for d in facts["defects"])
        prompt = (pick(rng, ("有多少处{}？", "数一数{}。")).format(KIND_ZH[kind]) if zh else
                  pick(rng, ("How many {} are there?", "Count the {}.")).format(PLURAL[kind]))
    return prompt, str(n)


CHOICE_PAIRS = {"en": (("good", "bad"), ("clean", "defective"), ("ok", "defect"), ("pass", "fail"), ("good", "defect"),
                       ("normal", "abnormal"), ("OK", "NG")),
                "zh": (("合格", "不合格"), ("完好", "有缺陷"), ("正常", "异常"), ("良品", "不良品"))}


def unfitting_options(rng, lang):
    """Options to a picture of something else: the one that says so, or UNKNOWN where all of them claim to know."""
    style = rng.random()
    if style < 0.4:
        options = list(pick(rng, CHOICE_PAIRS[lang]))
    else:
        names = STRIP_ZH if style > 0.7 else KIND_ZH if lang == "zh" else KIND_EN
        options = list(names.values() if lang == "zh" or names is KIND_EN else names.keys())
        rng.shuffle(options)
        options = options[:int(rng.integers(2, 8))]
        if rng.random() < 0.3:
            options.append(pick(rng, ("干净", "合格") if lang == "zh" else ("clean", "good", "ok")))
    if rng.random() < 0.4:
        options.append(pick(rng, NONE_OF_THEM[lang]))
        return options, options[-1]
    return options, UNKNOWN[lang]


def ask_choice(rng, facts, lang):
    """One of a few given words."""
    zh = lang == "zh"
    if facts["scene"] == "strip":
        names = STRIP_ZH.values() if zh else STRIP_ZH.keys()
        answer = STRIP_ZH[facts["name"]] if zh else facts["name"]
        if rng.random() < 0.35:
            good, bad = pick(rng, CHOICE_PAIRS[lang])
            options, answer = [good, bad], bad
        else:
            others = [n for n in names if n != answer]
            rng.shuffle(others)
            options = [answer] + others[:int(rng.integers(2, 7))]
    elif facts["scene"] == "other":
        options, answer = unfitting_options(rng, lang)
    elif facts["scene"] not in ("surface", "belt"):
        return None
    elif rng.random() < 0.4 or not facts["defects"]:
        good, bad = pick(rng, CHOICE_PAIRS[lang])
        options, answer = [good, bad], bad if facts["defects"] else good
        if not facts["defects"] and rng.random() < 0.4:
            kinds = list(KIND_ZH.values() if zh else KIND_EN.values())
            rng.shuffle(kinds)
            options = [good] + kinds[:int(rng.integers(1, 6))]
    else:
        kinds = sorted({d["kind"] for d in facts["defects"]})
        if len(kinds) > 1:                              # ask for the largest, if it is so clearly
            area = sorted(((d["box"][2] - d["box"][0]) * (d["box"][3] - d["box"][1]), d["kind"])
                          for d in facts["defects"])
            if area[-1][0] < 1.3 * area[-2][0] and area[-1][1] != area[-2][1]:
                return None
            kind = area[-1][1]
        else:
            kind = kinds[0]
        name = KIND_ZH if zh else KIND_EN
        others = [name[k] for k in KINDS if k not in kinds]
        rng.shuffle(others)
        answer, options = name[kind], [name[kind]] + others[:int(rng.integers(1, 7))]
        if rng.random() < 0.5:
            options.append(pick(rng, ("无", "干净") if zh else ("none", "clean", "good", "ok")))
    options = list(options)
    rng.shuffle(options)
    if zh:
        text = "、".join(options)
        return pick(rng, (f"选择一项：{text}。", f"这是哪一种：{text}？", f"分类：{text}。", f"请从以下选项中选择：{text}。")), answer
    text = ", ".join(options)
    return pick(rng, (f"Choose one: {text}.", f"Which is it: {text}?", f"Classify the surface: {text}.",
                      f"Classify: {text}.", f"Answer with one of: {text}.",
                      "Which is it: " + join(options, ", ", " or ") + "?")), answer


def ask_severity(rng, facts, lang):
    if len(facts["defects"]) != 1 and facts["scene"] != "other":
        return None
    names = SEVERITY_ZH if lang == "zh" else SEVERITY
    answer = names[severity(facts["defects"][0]["box"])] if facts["defects"] else UNKNOWN[lang]
    if lang == "zh":
        return pick(rng, ("缺陷有多严重？", "严重程度如何？")), answer
    return pick(rng, ("How severe is the defect?", "Severity?", "How bad is it: minor, moderate or severe?")), answer


def ask_material(rng, facts, lang):
    if facts["scene"] not in ("surface", "belt", "other"):
        return None
    answer = UNKNOWN[lang] if facts["scene"] == "other" else \
        MATERIAL_ZH[facts["material"]] if lang == "zh" else facts["material"]
    if lang == "zh":
        return pick(rng, ("这是什么材料？", "表面是什么材料？")), answer
    return pick(rng, ("What material is it?", "Name the material.", "What is the surface made of?")), answer


QUESTIONS = ((ask_describe, 0.36), (ask_report, 0.18), (ask_box, 0.14), (ask_yes_no, 0.10), (ask_count, 0.07),
             (ask_choice, 0.09), (ask_severity, 0.03), (ask_material, 0.03))
SHARES = np.array([share for _, share in QUESTIONS])
SHARES /= SHARES.sum()


def ask(rng, facts, lang=None):
    """A random question that fits the picture: (prompt, answer, language)."""
    while True:
        language = lang or pick(rng, ("en", "zh"))
        asked = QUESTIONS[rng.choice(len(QUESTIONS), p=SHARES)][0](rng, facts, language)
        if asked:
            return *asked, language


def thought(rng, facts, lang):
    """A line of reasoning for the thinking form; often none."""
    if rng.random() < 0.3:
        return ""
    n, zh = total(facts), lang == "zh"
    if facts["scene"] in ("pattern", "empty belt", "other"):
        return "画面里没有要检查的表面。" if zh else "There is no surface to inspect."
    if n == 0:
        return "表面没有缺陷。" if zh else "The surface has no defects."
    return f"我看到{NUMBER_ZH[n]}处缺陷。" if zh else f"I see {NUMBER[n]} defect{'s' if n > 1 else ''}."
