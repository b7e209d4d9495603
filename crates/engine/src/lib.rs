//! The writer, the read model, the watchers and the workers, and the ports they speak through.
