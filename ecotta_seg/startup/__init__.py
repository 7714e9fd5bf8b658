"""Used before torch is imported: libraries, paths, devices, the allocator and user errors."""
