"""A connection that runs statements as SQLAlchemy would, without most of its ceremony.

Compiled, bound and fetched by SQLAlchemy's own parts; what is left out is what nobody looks at
here: events, execution contexts, cursors that stay open. Whatever is not a plain SELECT, UPDATE or
DELETE goes its usual way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, cast

from sqlalchemy import Connection
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import Delete, Update
from sqlalchemy.sql.selectable import CompoundSelect, Select

_PLAIN = (Select, CompoundSelect, Update, Delete)
_NOTHING: dict[str, Any] = {}
_Convert = Callable[[Any], Any]


class _Rows(IteratorResult[Any]):
    """The rows of a statement, all of them fetched, and how many it changed."""

    rowcount = -1


class _Plan:
    """How a compiled statement is run."""

    def __init__(self, compiled: SQLCompiler, dialect: Any) -> None:
        self.compiled = compiled
        self.is_plain = not (
            compiled.literal_execute_params
            or compiled.isinsert
            or getattr(compiled, "update_prefetch", ())
            or getattr(compiled, "update_postfetch", ())
        )
        self.expands = bool(compiled.post_compile_params)
        self.sql = str(compiled)
        self.binds = _binds(compiled.positiontup, compiled._bind_processors)
        columns = compiled._result_columns
        self.rows: SimpleResultMetaData | None = None
        if columns:
            self.rows = SimpleResultMetaData(
                [column.keyname for column in columns],
                extra=[column.objects for column in columns],
                _processors=[
                    column.type._cached_result_processor(dialect, None) for column in columns
                ],
            )

    def expanded(self, values: dict[str, Any]) -> _Plan:
        """With a place for each member of its lists; `values` become those of the places."""
        state = self.compiled._process_parameters_for_postcompile(values)
        values.update(state.parameters)
        plan = copy(self)
        plan.sql = state.statement
        plan.binds = _binds(
            state.positiontup, {**self.compiled._bind_processors, **state.processors}
        )
        return plan

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        return [
            values[name] if convert is None else convert(values[name])
            for name, convert in self.binds
        ]


def _binds(
    names: Sequence[str] | None, converts: Mapping[str, Any]
) -> list[tuple[str, _Convert | None]]:
    return [(name, converts.get(name)) for name in names or ()]


class _Known:
    """The plan of one statement object that is run again and again, with its constants."""

    def __init__(self, statement: Any, values: Mapping[str, Any], plan: _Plan, told: Any) -> None:
        self.of = id(statement)  # else it was copied to a statement that is made from this one
        self.keys = told.keys()
        self.constants = values
        self.plan = plan


class QuickConnection(Connection):
    """One of the simulation's connections."""

    _plans: ClassVar[dict[int, _Plan]] = {}

    def execute(  # type: ignore[override]
        self, statement: Any, parameters: Any = None, *, execution_options: Any = None
    ) -> Any:
        plain = isinstance(statement, _PLAIN) and not statement._execution_options
        if not plain or execution_options or not isinstance(parameters or _NOTHING, dict):
            return super().execute(statement, parameters, execution_options=execution_options)
        told = parameters or _NOTHING
        known = statement.__dict__.get("_known")
        if known is not None and known.of == id(statement) and known.keys == told.keys():
            plan = known.plan
            return self._run(plan, plan.arguments({**known.constants, **told}))
        compiled, extracted, collected, _ = statement._compile_w_cache(
            dialect=self.dialect,
            compiled_cache=self.engine._compiled_cache,
            column_keys=sorted(told),
            for_executemany=False,
            schema_translate_map=None,
        )
        plan = self._plans.get(id(compiled))
        if plan is None or plan.compiled is not compiled:
            plan = self._plans[id(compiled)] = _Plan(compiled, self.dialect)
        if not plan.is_plain:
            return super().execute(statement, parameters)
        values = compiled.construct_params(
            told, extracted_parameters=extracted, _collected_params=collected
        )
        if plan.expands:
            lists = plan.compiled.post_compile_params
            varies = any(parameter.key in told for parameter in lists)
            plan = plan.expanded(values)
            if varies:
                return self._run(plan, plan.arguments(values))
        if told.keys() <= values.keys():
            statement.__dict__["_known"] = _Known(statement, values, plan, told)
        return self._run(plan, plan.arguments(values))

    def _run(self, plan: _Plan, arguments: list[Any]) -> _Rows:
        cursor = self.connection.driver_connection.cursor()  # type: ignore[union-attr]
        try:
            cursor.execute(plan.sql, arguments)
            found = cursor.fetchall() if plan.rows is not None else []
        except Exception as error:
            self._handle_dbapi_exception(error, plan.sql, arguments, cursor, None)
        result = _Rows(cast(Any, plan.rows), iter(found))
        result.rowcount = cursor.rowcount
        return result
