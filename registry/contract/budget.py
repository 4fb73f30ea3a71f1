"""How much a stranger's contract may cost. It enforces nothing: the modules that count do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits on one contract document and on the data validated by it.

    Attributes:
        document_bytes: Size of the document.
        depth: Nesting of the document, and of every JSON body later.
        nodes: JSON values in the document, YAML aliases counted as expanded.
        operations: OpenAPI operations.
        schemas: Schema objects reached, per direction.
        patterns: Regular expressions.
        pattern_chars: Length of one regular expression.
        pattern_program_bytes: Compiled size of one regular expression.
        enum_values: Values in all ``enum`` lists together.
        evaluations: Schema evaluations along one path from the root of a body to its deepest value; this bounds
            reference expansion, recursion and everything that multiplies.
        analysis_steps: Work of computing that bound.
        compiled_schemas: Schema objects over all compiled validators of one contract.
        faults: Errors collected before the check gives up.
        body_bytes: Largest opaque, XML or JSON body.
        xsd_bytes: Size of one inline XSD.
    """

    document_bytes: int = 1_048_576
    depth: int = 64
    nodes: int = 200_000
    operations: int = 500
    schemas: int = 10_000
    patterns: int = 1_000
    pattern_chars: int = 1_000
    pattern_program_bytes: int = 4_194_304
    enum_values: int = 20_000
    evaluations: int = 4_000
    analysis_steps: int = 2_000_000
    compiled_schemas: int = 200_000
    faults: int = 100
    body_bytes: int = 4_194_304
    xsd_bytes: int = 262_144


DEFAULT = Budget()
