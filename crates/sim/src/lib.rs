//! Seeds in, whole-platform runs out: forks, crashes at every effect, power cuts, lying nodes, failing stores; and an auditor of its own.
