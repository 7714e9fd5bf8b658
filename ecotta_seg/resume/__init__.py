"""States on disk from which a run resumes: files, the identity of a run, random generators."""
