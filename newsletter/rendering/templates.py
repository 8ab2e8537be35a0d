"""Templates: Jinja2 in its sandbox, a workspace's own before the built-in ones, within limits.

An error names template and line. Every tag that a template writes carries the place where it stands
(`AT`), so that what MJML would not accept can be named by place too; `mjml` takes the marks out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import (
    BaseLoader,
    StrictUndefined,
    TemplateNotFound,
    TemplateSyntaxError,
    nodes,
    pass_eval_context,
)
from jinja2.bccache import Bucket, BytecodeCache
from jinja2.compiler import CodeGenerator, Frame
from jinja2.environment import Environment
from jinja2.exceptions import SecurityError
from jinja2.filters import do_join
from jinja2.runtime import BlockReference, Macro, Undefined, markup_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from newsletter.errors import BadInput, NewsletterError, Where
from newsletter.rendering.slots import neutralise
from newsletter.workspace import Workspace, bundled

#: The attribute that says where in which template a tag stands: `name:line`.
AT = "data-template-at"

SUFFIX = ".mjml.j2"
MAX_SOURCE = 500_000
MAX_OUTPUT = 2_000_000

# A tag's beginning; what Jinja reads itself is passed over, as a text in it may hold tags too.
_TAG = re.compile(
    r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|(?P<tag></?[a-zA-Z][a-zA-Z0-9-]*)(?=[\s/>])", re.DOTALL
)
_NAME = re.compile(r"[\w][\w./-]*")
_FILTERS = frozenset(
    {"capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "int", "items"}
    | {"join", "last", "length", "list", "lower", "map", "reject", "rejectattr", "select"}
    | {"selectattr", "sort", "string", "striptags", "title", "tojson", "trim", "truncate"}
    | {"unique", "upper", "urlencode"}
)
_CALLABLE = frozenset({"items", "keys", "values", "get", "cycle", "changed"})
_LARGEST = 10**15


class _Loader(BaseLoader):
    """Files of the workspace's templates, then of the built-in ones."""

    def __init__(self, workspace: Workspace) -> None:
        self.folders = [workspace.templates, bundled("templates")]
        self.workspace = workspace
        self.files: dict[str, str] = {}  # a template's name → its file as messages name it

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        for folder in self.folders:
            path = folder / template
            if not _NAME.fullmatch(template) or ".." in template.split("/") or not path.is_file():
                continue
            if not path.resolve().is_relative_to(folder.resolve()):
                continue
            self.files[template] = self._shown(folder, path)
            return _mark(self._read(path, self.files[template]), template), template, lambda: True
        raise TemplateNotFound(template)

    def _shown(self, folder: Path, path: Path) -> str:
        own = folder == self.workspace.templates
        return self.workspace.relative(path) if own else f"templates/{path.name} (built in)"

    def _read(self, path: Path, shown: str) -> str:
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"the template cannot be read: {error}", where=Where(shown)) from error
        if len(source) > MAX_SOURCE:
            raise BadInput(
                f"the template has more than {MAX_SOURCE} characters", where=Where(shown)
            )
        return neutralise(source)


def _mark(source: str, name: str) -> str:
    """`source` with its place written into every tag; no line is added or taken away."""
    line, end = 1, 0

    def marked(match: re.Match[str]) -> str:
        nonlocal line, end
        line, end = line + source.count("\n", end, match.start()), match.start()
        return f'{match[0]} {AT}="{name}:{line}"' if match["tag"] else match[0]

    return _TAG.sub(marked, source)


class _Generator(CodeGenerator):
    """Compiles `~` to a join with a limit: doubled thirty times, a text would fill the memory."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.joined((")
        for argument in node.nodes:
            self.visit(argument, frame)
            self.write(", ")
        self.write("))")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox without what makes text or time out of nothing."""

    code_generator_class = _Generator
    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic between small numbers; `+` between texts or lists; nothing else."""
        numbers = all(isinstance(value, (int, float)) for value in (left, right))
        alike = any(isinstance(left, kind) and isinstance(right, kind) for kind in (str, list))
        if operator == "**" or not (numbers or (operator == "+" and alike)):
            raise SecurityError(f"{operator!r} is not allowed between these values")
        result = super().call_binop(context, operator, left, right)
        if (numbers and abs(result) > _LARGEST) or (alike and len(result) > MAX_OUTPUT):
            raise SecurityError("a value has grown too large")
        return result

    def concat(self, pieces: Iterable[str]) -> str:
        """Joins what a macro or a `set` block wrote."""
        texts = list(pieces)
        _check_length(texts)
        return "".join(texts)

    def joined(self, values: tuple[Any, ...]) -> str:
        """What `~` joins."""
        _check_length(values)
        result: str = markup_join(values)  # Markup where one of them is
        return result

    def is_safe_callable(self, obj: Any) -> bool:
        """Macros, blocks, and what loops and mappings offer; no `ljust(10**9)` of a text."""
        if isinstance(obj, (Macro, BlockReference, Undefined)):  # the last says what is missing
            return True
        owner = getattr(obj, "__self__", None)
        return getattr(obj, "__name__", "") in _CALLABLE and not isinstance(owner, str)


def _check_length(values: Iterable[Any]) -> None:
    if sum(len(value) for value in values if isinstance(value, str)) > MAX_OUTPUT:
        raise SecurityError("a text has grown too long")


@pass_eval_context
def _join(context: Any, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    """Jinja's `join`, with a limit on what it would write."""
    values = list(value)
    _check_length(values)
    if len(d) * len(values) > MAX_OUTPUT:
        raise SecurityError("a text has grown too long")
    result: str = do_join(context, values, d, attribute)
    return result


class _CompiledTemplates(BytecodeCache):
    """Compiled templates of this process: compiling them takes longer than rendering an issue.

    Jinja compares the checksum of the source, so an edited template is compiled again.
    """

    def __init__(self) -> None:
        self.code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self.code:
            bucket.bytecode_from_string(self.code[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.code[bucket.key] = bucket.bytecode_to_string()


_compiled = _CompiledTemplates()


class Templates:
    """The templates of a workspace, ready to render."""

    def __init__(self, workspace: Workspace) -> None:
        self.loader = _Loader(workspace)
        self.environment = _Sandbox(
            loader=self.loader,
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            bytecode_cache=_compiled,
        )
        self.environment.globals.clear()
        known = self.environment.filters
        self.environment.filters = {name: known[name] for name in sorted(_FILTERS)}
        self.environment.filters["join"] = _join

    def render(self, name: str, values: Mapping[str, Any], where: Where) -> str:
        """The MJML that the template `name` writes; `where` names it, if there is no such one.

        Raises `BadInput` naming template and line.
        """
        try:
            template = self.environment.get_template(name + SUFFIX)
            pieces: list[str] = []
            size = 0
            for piece in template.generate(values):
                size += len(piece)
                if size > MAX_OUTPUT:
                    raise SecurityError(
                        f"it writes more than {MAX_OUTPUT:,} characters; is the issue too long?"
                    )
                pieces.append(piece)
        except TemplateNotFound as error:
            if error.name == name + SUFFIX:
                raise BadInput(
                    f"no such template: {name!r}", where=where,
                    hint=f"Make templates/{name}{SUFFIX}, or name one of: {self._names()}.",
                ) from error  # fmt: skip
            self._fail(error, f"no such template to include: {error.name!r}")
        except TemplateSyntaxError as error:
            self._fail(error, error.message or "a syntax error", error.name, error.lineno)
        except RecursionError as error:
            self._fail(error, "it includes or calls itself without end")
        except NewsletterError:
            raise
        except Exception as error:  # a template is a program: filters raise whatever they like
            self._fail(error, str(error) or type(error).__name__)
        return "".join(pieces)

    def where(self, at: str) -> Where:
        """The place that a tag's mark names."""
        name, _, line = at.rpartition(":")
        return Where(self.loader.files.get(name, name), int(line))

    def _names(self) -> str:
        found = {
            path.name.removesuffix(SUFFIX)
            for folder in self.loader.folders
            for path in folder.glob("*" + SUFFIX)
            if not path.name.startswith("_")
        }
        return ", ".join(sorted(found))

    def _fail(
        self, error: BaseException, message: str, name: str | None = None, line: int | None = None
    ) -> NoReturn:
        """The last template frame of the traceback is where it happened."""
        if name is None:
            name, line = self._last_frame(error)
        if name is None:  # none has run: the one that was read last does not compile
            name = next(reversed(self.loader.files), "templates")
        shown = self.loader.files.get(name, name)
        raise BadInput(
            f"the template cannot be rendered: {message}",
            where=Where(shown, line),
            hint="Correct the template; docs/templates.md has what it may use.",
        ) from error

    def _last_frame(self, error: BaseException) -> tuple[str | None, int | None]:
        found: tuple[str | None, int | None] = (None, None)
        traceback = error.__traceback__
        while traceback:
            file = traceback.tb_frame.f_code.co_filename
            if file in self.loader.files:
                found = (file, traceback.tb_lineno)
            traceback = traceback.tb_next
        return found


def safe(html: str) -> Markup:
    """HTML that needs no escaping."""
    return Markup(html)  # noqa: S704  # written by this package, not by a person
