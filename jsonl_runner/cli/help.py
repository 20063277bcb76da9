"""What --help shows, put into sections, and what is said of words that a command does not know."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Options that a command may have without sections: as many as one takes in at a glance.
_FEW = 14
#: Sections of options, by their names in Python; what is in none stands first, as "Options".
_SECTIONS = {
    "To begin with": "simulate dry_run limit sample sample_seed config_path model models",
    "What is read": "format index_field auto_index bad_rows redo_changed include_batched",
    "What is asked": "maps template system turns n",
    "What is answered": "temperature max_tokens params sampling response_format post judge "
    "judge_model",
    "How calls are made": "api_base proxy transport provider threads max_retries timeout cache "
    "fsync engine ray_address workers",
    "What it costs": "max_cost max_tokens_total output_tokens verdict_tokens price prices",
    "What is told": "live log_file metrics_port metrics_host as_json quiet verbose debug help",
}
_SECTION_OF = {name: title for title, names in _SECTIONS.items() for name in names.split()}
#: Sections of the commands, in the order in which they are wanted.
_COMMANDS = {
    "The main job": "validate run status merge",
    "Before and after it": "config keys render estimate report compact",
    "Other ways to ask": "query interactive files batch requests",
    "Tools": "tokens cache simulate",
}
#: What other programs call our options.
_SAME_AS = {
    "--threads": "--concurrency --max-concurrency --parallel --max-parallel --jobs --num-threads "
    "--max-workers --batch-size -c -j",
    "--api-base": "--base-url --url --endpoint",
    "--limit": "--max-rows --num-rows --max-samples --head -n",
    "--n": "--num-samples --samples --num-generations --best-of",
    "--max-cost": "--budget --max-budget",
    "--max-retries": "--retries --num-retries",
    "--response-format": "--schema --json-schema --json-mode",
    "--system": "--system-prompt --instruction",
    "--template": "--prompt --prompt-template",
    "--data": "--input -i",
}
_SETTING = "it is a setting: {0} in config.json, or JSONL_RUNNER_{1} in the environment"
#: What is done here in another way.
_INSTEAD = {
    "--api-key --api-keys --key --keys": "keys go into config.json or OPENAI_API_KEY, where no "
    "list of processes shows them",
    "--resume --continue --skip-existing": "there is no need: the same command goes on where it "
    "stopped",
    "--output --out -o --input -i --data": "files stand alone: {usage}",
    "--rpm --requests-per-minute --rate-limit": _SETTING.format(
        "requests_per_minute", "REQUESTS_PER_MINUTE"
    ),
    "--tpm --tokens-per-minute": _SETTING.format("tokens_per_minute", "TOKENS_PER_MINUTE"),
    "--top-p --stop --presence-penalty --frequency-penalty --reasoning-effort": "what else a "
    "request can hold goes by --param, as in --param top_p=0.9",
}
_OURS = {word: ours for ours, words in _SAME_AS.items() for word in words.split()}
_OTHERWISE = {word: told for words, told in _INSTEAD.items() for word in words.split()}


class Sectioned(click.Command):
    """A command whose options, where they are many, stand in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        if len(options) <= _FEW:
            super().format_options(ctx, formatter)
            return
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], **{t: [] for t in _SECTIONS}}
        for one in options:
            record = one.get_help_record(ctx)
            if record is not None:
                name = "help" if "--help" in one.opts else one.name or ""
                sections[_SECTION_OF.get(name, "Options")].append(record)
        _write(formatter, sections)


def write_commands(group: click.Group, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the commands of the whole program, those of the main job first."""
    _write(
        formatter,
        {
            title: [
                (name, command.get_short_help_str(100))
                for name in names.split()
                if (command := group.get_command(ctx, name)) is not None
            ]
            for title, names in _COMMANDS.items()
        },
    )


def _write(formatter: click.HelpFormatter, sections: dict[str, list[tuple[str, str]]]) -> None:
    """Write sections, all with the same columns."""
    width = max((len(row[0]) for rows in sections.values() for row in rows), default=0)
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                padded = [(name.ljust(min(width, 30)), text) for name, text in rows]
                formatter.write_dl(padded)


def unknown_option(error: click.NoSuchOption) -> str:
    """Return what is said of an option that a command has not."""
    known = _options_of(error.ctx)
    name = error.option_name
    said = f"there is no option {name}"
    ours = _OURS.get(name)
    if ours in known:
        return f"{said}; here it is {ours}"
    instead = _OTHERWISE.get(name)
    if instead is not None:
        return f"{said}; {instead.format(usage=usage_of(error.ctx))}"
    near = difflib.get_close_matches(name, known, 1, 0.7)  # the dashes are alike
    return f"{said}; did you mean {near[0]}?" if near else said


def usage_of(ctx: click.Context | None) -> str:
    """Return a command with the names of its arguments."""
    if ctx is None:
        return ""
    pieces = [one for one in ctx.command.collect_usage_pieces(ctx) if one != "[OPTIONS]"]
    return " ".join((ctx.command_path, *pieces))


def _options_of(ctx: click.Context | None) -> list[str]:
    params: Iterable[click.Parameter] = () if ctx is None else ctx.command.get_params(ctx)
    return [word for one in params if isinstance(one, click.Option) for word in one.opts]
