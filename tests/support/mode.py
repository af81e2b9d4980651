"""The calling thread's MXCSR on x86: rounding, exception masks, flush to zero."""

import ctypes
import mmap


class Mode:
    def __init__(self):
        self.code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.code.write(b"\x0f\xae\x1f\xc3\x0f\xae\x17\xc3")  # stmxcsr [rdi]; ret; ldmxcsr [rdi]; ret
        at = ctypes.addressof(ctypes.c_char.from_buffer(self.code))
        self.store, self.load = (ctypes.CFUNCTYPE(None, ctypes.c_void_p)(at + skip) for skip in (0, 4))

    def get(self):
        """Without the sticky flags, which any arithmetic sets."""
        word = ctypes.c_uint32()
        self.store(ctypes.byref(word))
        return word.value & 0xFFC0

    def set(self, value):
        self.load(ctypes.byref(ctypes.c_uint32(value)))
