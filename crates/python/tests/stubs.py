"""Stubs of the CUDA libraries that PyPI's torch is linked with, so that tests on a CPU do not download 3 GB of them.

    python stubs.py SITE_PACKAGES

Each library of torch/lib that is needed and nowhere to be found is made with gcc, into torch/lib: every undefined
symbol of torch's libraries that none of them defines, with the version that torch asks for. What registers kernels when
torch is loaded does nothing; anything else says that there is no device. For tests only.
"""

import pathlib
import re
import subprocess
import sys
import tempfile


def readelf(option, library):
    run = subprocess.run(["readelf", "-W", option, str(library)], capture_output=True, text=True, check=True)
    return run.stdout


def symbols(library):
    """Names defined, and (name, version or None) undefined."""
    defined, undefined = set(), set()
    for line in readelf("--dyn-syms", library).splitlines():
        fields = line.split()
        if len(fields) < 8 or not fields[0].rstrip(":").isdigit():
            continue
        name, _, version = fields[7].partition("@")
        if fields[6] == "UND":
            if fields[4] != "WEAK":
                undefined.add((name, version.lstrip("@") or None))
        else:
            defined.add(name)
    return defined, undefined


def result(name):
    """What a stub returns: cudaErrorNoDevice, which is an error in every of these libraries, or an error's text.

    Where such a name belongs to a function that returns a number, the text's address is an error as well.
    """
    if name.startswith("__cuda"):
        return "0"
    is_text = name.endswith(("String", "Name")) or name == "ncclGetLastError"
    return '"no device: this library is a stub"' if is_text else "(void *)100"


def main(site_packages):
    folder = pathlib.Path(site_packages) / "torch" / "lib"
    libraries = sorted(folder.glob("*.so*"))
    needed, defined, undefined, versions = set(), set(), set(), {}
    for library in libraries:
        needed |= set(re.findall(r"\(NEEDED\).*\[(.+?)\]", readelf("-d", library)))
        ours, theirs = symbols(library)
        defined |= ours
        undefined |= theirs
        file = None
        for kind, name in re.findall(r"(File|Name): (\S+)", readelf("-V", library)):
            if kind == "File":
                file = name
            else:
                versions.setdefault(file, set()).add(name)
    cache = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    system = set(re.findall(r"^\s+(\S+) \(", cache, re.MULTILINE))
    missing = sorted(name for name in needed - system if not (folder / name).exists())
    if not missing:
        return
    of_version = {version: name for name in missing for version in versions.get(name, ())}
    wanted = {name: {} for name in missing}
    # What has no version may come from any library: it is put into the first.
    for name, version in undefined:
        if version in of_version:
            wanted[of_version[version]].setdefault(version, set()).add(name)
        elif version is None and name not in defined:
            wanted[missing[0]].setdefault(None, set()).add(name)
    with tempfile.TemporaryDirectory() as work:
        for soname, by_version in wanted.items():
            source, script = pathlib.Path(work) / "stub.c", pathlib.Path(work) / "stub.map"
            names = sorted(set().union(*by_version.values()))
            source.write_text("".join(f"void *{name}(void) {{ return {result(name)}; }}\n" for name in names))
            nodes = [(version, sorted(of)) for version, of in by_version.items() if version]
            script.write_text("".join(f"{v} {{ global: {'; '.join(of)}; }};\n" for v, of in nodes))
            options = [f"-Wl,--version-script={script}"] if nodes else []
            command = ["gcc", "-w", "-fno-builtin", "-shared", "-nostdlib", "-fPIC", f"-Wl,-soname,{soname}", *options]
            subprocess.run([*command, "-o", str(folder / soname), str(source)], check=True)
    print(f"{len(missing)} stubs: {', '.join(missing)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
