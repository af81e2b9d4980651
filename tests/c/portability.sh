#!/usr/bin/env bash
# The C library on other compilers and systems: built, and gradients.c run, by each tool chain that is there.  As root
# under CI, apt-get installs those of Debian; what is missing is skipped with a line.  All builds must print the same
# digests, for each instruction set that two of them have, but base, which has no fused multiply-add on x86.  (From -O2
# on they do; at -O1 gcc fuses other products.)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap '{ ! command -v wineserver || wineserver -w; } > "$work/wait" 2>&1; rm -rf "$work"' EXIT
export WINEPREFIX="$work/wine" WINEDEBUG=-all

if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get > "$work/apt" && ! { command -v clang && command -v \
    aarch64-linux-gnu-gcc && command -v qemu-aarch64 && command -v x86_64-w64-mingw32-gcc && command -v wine; } > "$work/apt"; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends clang \
        gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user gcc-mingw-w64-x86-64 wine wine64; } > "$work/apt" 2>&1 ||
        echo "apt-get: not everything could be installed"
fi

# check NAME LEVEL COMPILER [RUNNER]: RUNNER runs the program where this machine cannot.
check() {
    local name=$1 level=$2 compiler=$3 runner=${4:-} tool build=$work/$1
    for tool in $compiler $runner; do
        if ! command -v "$tool" > "$work/found-$name"; then
            echo "skipped: the C library with $name: $tool is not installed"
            return
        fi
    done
    mkdir "$build"
    (
        cd "$build"
        printf '%s\0' "$root"/csrc/*.c "$root"/csrc/instances/*.c |
            xargs -0 -n 1 -P "$(nproc)" "$compiler" "@$root/csrc/flags" "$level" -Wall -Wextra -Werror -I "$root/csrc" -c
        "$compiler" -std=c11 -O1 -Wall -Wextra -Werror -I "$root/csrc" "$root/tests/c/gradients.c" ./*.o -lm -pthread \
            -static -o gradients.exe
        $runner ./gradients.exe 2> errors | tr -d '\r' > results || { cat results errors && exit 1; }
    )
    echo "$name: $(tail -n 1 "$build/results")"
    awk '$1 == "ok" && $2 != "base" { print $2, $3, $4, $6 }' "$build/results" >> "$work/digests"
}

checks=() # at the same time: the emulated programs leave cores to the compilers
check aarch64 -O1 aarch64-linux-gnu-gcc qemu-aarch64 & checks+=($!)
check mingw-w64 -O2 x86_64-w64-mingw32-gcc wine & checks+=($!)
check clang -O3 clang & checks+=($!)
check gcc -O2 gcc & checks+=($!)
for check in "${checks[@]}"; do wait "$check"; done

if differing=$(sort -u "$work/digests" | awk '{ print $1, $2, $3 }' | uniq -d) && [ -n "$differing" ]; then
    printf 'builds differ in bits:\n%s\n' "$differing"
    exit 1
fi
