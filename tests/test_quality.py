"""What would spoil training: each reason is found where it is, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsonl_runner.quality import LONG_ECHO, LONG_ENOUGH, REASONS, Inspection, Origin
from jsonl_runner.refusals import is_refusal
from jsonl_runner.repeats import MOST_COUNTED, Frequent, Repeats
from jsonl_runner.schemas import check_of_format

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "\n I’m sorry, but I can’t assist with that request.",
    "I apologize, but I cannot fulfill this request.",
    "Sorry, but as an AI assistant, I cannot do that.",
    "As an AI language model, I cannot browse the internet.",
    "As an AI developed by OpenAI, I can't access external files.",
    "I am an AI language model and cannot give legal advice.",
    "**I'm sorry**, but I can't help with that.",
    "I cannot provide information on how to do this.",
    "I must decline to answer this question.",
    "抱歉，我无法提供该信息。",
    "很抱歉，作为一个AI语言模型，我无法获取实时的地理位置信息。",
    "作为一个AI，我没有个人情感。",
    "我无法提供入侵他人 WiFi 网络的方法。",
    "申し訳ありませんが、そのリクエストにはお応えできません。",
    "AIとして、個人的な意見を持っていません。",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "Je suis désolé, mais je ne peux pas vous aider avec cela.",
    "Es tut mir leid, aber dabei kann ich Ihnen nicht helfen.",
]
ANSWERS = [
    "",
    '"',
    "Sorry for the delay, the parcel is on its way.",
    "I'm sorry, but I can't make it to the meeting on Friday.",
    "I'm sorry to hear that. Here is the letter: Dear Sir, I cannot provide ...",
    "I cannot recommend this book enough.",
    "I can't help but notice how beautiful it is.",
    "As an AI engineer, I do not like meetings.",
    "As an assistant professor, I do not have tenure.",
    "As an AI language model, I can help you with that. Here is a list:",
    "Apologies for the confusion. The right answer is 7.",
    "Negative. \"I'm sorry, but I can't help with that\" is a refusal.",
    "抱歉，我无法参加明天的会议。",
    "作为一名教师，我不能接受这种行为。",
    "申し訳ありませんが、明日の会議に参加できません。",
    "Leider hat es geregnet.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_known_by_their_beginning(text: str) -> None:
    assert is_refusal(text)
    assert is_refusal(text.upper())
    assert not is_refusal(f"The answer is this: {text}")


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_that_is_only_sorry_is_none(text: str) -> None:
    assert not is_refusal(text)


def reasons(output: Any, row: dict[str, Any] | None = None, finish: str | None = None) -> Any:
    return Inspection().look("0", output, row, Origin(finish))


def test_each_reason_by_itself() -> None:
    question = {"index": "0", "instruction": "What is the capital of Japan, please?"}
    asking = {**question, "params": {"response_format": {"type": "json_object"}}}
    assert reasons("Tokyo", question, "stop") == ()
    assert reasons(" \n", question) == ("empty",)
    assert reasons("", question) == ("empty",)
    assert reasons("The capital of", question, "length") == ("length",)
    assert reasons("The capital", question, "content_filter") == ("refusal",)
    assert reasons("what is  the CAPITAL\nof Japan, please? Tokyo", question) == ("echo",)
    assert reasons("Tokyo", asking) == ("schema",)
    assert reasons('{"capital": "Tokyo"}', asking) == ()
    assert reasons({"capital": "Tokyo"}, asking) == (), "older ledgers hold more than texts"
    assert reasons(REFUSALS[0], asking, "length") == ("length", "refusal", "schema")


def test_a_run_asks_the_same_of_all_rows_that_ask_nothing_else() -> None:
    """A row's own format goes before it, `text` too; and there are outputs no schema is for."""
    origin = Origin(check=check_of_format({"type": "json_object"}))
    plain = {"index": "0", "instruction": "q"}
    wanted = {"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}
    broken = {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}

    def found(output: str, row: dict[str, Any] | None, origin: Origin = origin) -> Any:
        return Inspection().look("0", output, row, origin)

    def own(shape: Any) -> dict[str, Any]:
        return {**plain, "params": {"response_format": shape}}

    assert found("no", plain) == ("schema",)
    assert found("{}", plain) == ()
    assert (found("{}", own(wanted)), found("[]", own(wanted))) == (("schema",), ())
    for shape in ({"type": "text"}, None, broken):
        assert found("no", own(shape)) == (), shape
    assert found("no", None) == (), "the row may have a format of its own"
    assert found("no", plain, origin._replace(is_made=True)) == ()
    assert found("no", own(wanted), origin._replace(is_made=True)) == ()
    assert found("no", plain, origin._replace(finish_reason="tool_calls")) == ()


def test_what_repeats_the_question() -> None:
    """Input, instruction or both; the last message of the user; short ones never."""
    text, task = "The quick brown fox jumps.", "Translate the text into German:"
    row = {"index": "0", "instruction": task, "input": text}
    for echo in (text, task, f"{task}\n\n{text}", f"  {text} Der schnelle Fuchs springt."):
        assert reasons(echo, row) == ("echo",), echo
    assert reasons(text[:-2], row) == ()
    assert reasons("Der schnelle Fuchs springt.", row) == ()
    assert reasons("2 + 2 = 4", {"index": "0", "instruction": "2 + 2"}) == ()
    part = {"type": "text", "text": text}
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    for content in (text, [picture, part]):
        turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "x"}]
        assert reasons(text, {"index": "0", "messages": turns}) == ("echo",)
    assert reasons(text, {"index": "0", "messages": [{"role": "system", "content": text}]}) == ()


@given(
    question=st.text(" \tAaBbßΣ.", max_size=60),
    more=st.text(" \taB.", max_size=9),
    space=st.sampled_from(["", " ", "\n\t"]),
)
def test_for_every_question_an_echo_is_what_begins_with_it(
    question: str, more: str, space: str
) -> None:
    text = space + question.replace(" ", "  ").swapcase() + more
    plain = " ".join(question.split()).casefold()
    is_long = min(len(question), len(plain)) >= LONG_ECHO
    is_echo = is_long and " ".join(text.split()).casefold().startswith(plain)
    assert ("echo" in reasons(text, {"index": "0", "instruction": question})) == is_echo


def test_the_first_of_outputs_that_repeat_each_other_is_good() -> None:
    """Labels repeat by nature, and rows that ask the same may well be answered alike."""
    inspection = Inspection()
    long, label = "x" * LONG_ENOUGH, "positive"
    for number, (asked, output, expected) in enumerate(
        [
            ("a", long, ()),
            ("a", long, ()),
            ("b", long, ("duplicate",)),
            ("c", label, ()),
            ("d", label, ()),
            ("e", long, ("duplicate",)),
            ("a", long, ()),
        ]
    ):
        row = {"index": str(number), "instruction": asked}
        assert inspection.look(str(number), output, row=row) == expected, number
    found = inspection.result()
    assert found["duplicate"].outputs == found.spoilt == 2
    assert found.frequent == [Frequent(long, 5), Frequent(label, 2)]
    assert not found.at_least
    alone = Inspection()
    assert [alone.look(index, long) for index in "12"] == [(), ("duplicate",)]


@given(st.lists(st.integers(0, 300), max_size=60))
def test_for_every_list_of_texts_repeats_agree_with_a_dictionary(numbers: list[int]) -> None:
    repeats = Repeats()
    first: dict[str, int] = {}
    for number in numbers:
        text, asked = str(number // 3), number % 3
        assert repeats.add(text, asked) == (first.setdefault(text, asked) != asked)
    counts = {str(n // 3): sum(m // 3 == n // 3 for m in numbers) for n in numbers}
    often = [Frequent(text, count) for text, count in counts.items() if count > 1]
    often.sort(key=lambda item: (-item.rows, item.text))
    assert repeats.most_frequent(3) == often[:3]


def test_the_memory_for_frequent_texts_is_bounded() -> None:
    repeats = Repeats()
    for number in range(MOST_COUNTED + 10):
        for _ in range(2 + (number == 7)):
            repeats.add(str(number), number)
    assert repeats.has_forgotten
    assert repeats.most_frequent(1) == [Frequent("7", 3)]
    assert repeats.add("1", 0), "what is forgotten as frequent is still known"


def test_counts_and_examples() -> None:
    inspection = Inspection()
    for number in range(8):
        row = {"index": str(number), "instruction": "Do", "input": f"this {number}"}
        inspection.look(str(number), "" if number % 2 else "fine", row=row)
    inspection.add_null("content_filter")
    inspection.add_null("empty_answer", 3)
    inspection.add_null("timeout")
    found = inspection.result()
    assert [finding.reason for finding in found.findings] == list(REASONS)
    assert (found.outputs, found.spoilt, found.has_rows) == (8, 4, True)
    assert (found["empty"].outputs, found["empty"].nulls, found["refusal"].nulls) == (4, 3, 1)
    assert [example.index for example in found["empty"].examples] == ["1", "3", "5", "7"]
    assert found["empty"].examples[0].input == "Do this 1"
    assert found.to_dict()["frequent"] == [
        {"text": "", "rows": 4},
        {"text": "fine", "rows": 4},
    ]
