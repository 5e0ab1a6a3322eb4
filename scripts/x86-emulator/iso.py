"""Writes a bootable image: iso.py ISOLINUX LDLINUX KERNEL INITRD OUT KERNEL-ARGUMENT..."""

import io
import sys

import pycdlib

isolinux, ldlinux, kernel, initrd, out, *arguments = sys.argv[1:]
iso = pycdlib.PyCdlib()
iso.new(interchange_level=3)
for path, name in (isolinux, "ISOLINUX.BIN"), (ldlinux, "LDLINUX.C32"), (kernel, "KERNEL.IMG"), (initrd, "INITRD.IMG"):
    iso.add_file(path, f"/{name};1")
config = f"DEFAULT l\nLABEL l\nKERNEL KERNEL.IMG\nINITRD INITRD.IMG\nAPPEND {' '.join(arguments)}\n".encode()
iso.add_fp(io.BytesIO(config), len(config), "/ISOLINUX.CFG;1")
iso.add_eltorito("/ISOLINUX.BIN;1", boot_info_table=True, boot_load_size=4)
iso.write(out)
iso.close()
