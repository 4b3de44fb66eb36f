#!/usr/bin/env bash
# Makes dist/ginnel-linux-x86_64 and dist/ginnel-linux-aarch64: one file each, no Deno needed where they run.
#
#   ./compile.sh                 both architectures
#   ./compile.sh aarch64         one of them
#
# It uses `deno compile`. Where the runtime that needs cannot be downloaded, it packs the npm-distributed Deno
# into a self-extracting file of the same name and use instead (src/cli/selfextract); that takes npm and tar.
# Either way takes a C compiler for each architecture, for the library that speaks to TUN interfaces: gcc, and
# gcc-aarch64-linux-gnu or gcc-x86-64-linux-gnu for the other one.
#
#   GINNEL_PACK=auto|compile|selfextract   which way to go; default auto
#   GINNEL_PACK_LEVEL=19                   compression of the self-extracting file, 1 (fast) to 19 (small)
#   GINNEL_DIST=dist                       where to put the files
#   GINNEL_ENTRY=main.ts                   the program
#   GINNEL_MEASURE=yes                     start each file twice and print sizes and times; no: leave that out
set -euo pipefail
cd "$(dirname "$0")"

VERSION=2.9.5
pack=${GINNEL_PACK:-auto}
level=${GINNEL_PACK_LEVEL:-19}
dist=${GINNEL_DIST:-dist}
entry=${GINNEL_ENTRY:-main.ts}

# All that the four modes need: sockets, files, environment, the system's facts, native calls for socket buffers and
# TUN, and the programs that set up a tunnel's network or a service. No code from elsewhere; nothing is ever asked for at
# run time.
permissions=(--no-prompt --unstable-net --allow-net --allow-read --allow-write --allow-env --allow-sys --allow-ffi
  --allow-run=ip,nft,nmcli,resolvectl,systemctl)

case $pack in auto | compile | selfextract) ;; *)
  echo "GINNEL_PACK=$pack is none of auto, compile, selfextract" >&2
  exit 2
  ;;
esac
for arch in "$@"; do
  case $arch in x86_64 | aarch64) ;; *)
    echo "Unknown architecture $arch: expected x86_64 or aarch64" >&2
    exit 2
    ;;
  esac
done
[ $# -gt 0 ] || set -- x86_64 aarch64

# The Deno whose version is pinned: the one on PATH, or npm's.
deno=(npx -y "deno@$VERSION")
if [ "$(deno --version 2>/dev/null | sed -n '1s/deno \([0-9.]*\).*/\1/p')" = "$VERSION" ]; then deno=(deno); fi

mkdir -p "$dist"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

library() { # arch: builds the native library for TUN interfaces, sets `library`; shim.c names its own flags
  local compilers=("$1-linux-gnu-gcc") compiler made
  [ "$1" != "$(uname -m)" ] || compilers+=(gcc cc)
  for compiler in "${compilers[@]}"; do
    command -v "$compiler" >/dev/null || continue
    mkdir -p .cache/tun
    library=.cache/tun/ginnel_tun-$1.so
    made=$(mktemp -d .cache/tun/build.XXXXXX)
    # shellcheck disable=SC2046 # words on purpose
    "$compiler" $(sed -n 's/^ \* build: //p' src/io/tun/shim.c) -o "$made/library" src/io/tun/shim.c
    mv -f "$made/library" "$library"
    rmdir "$made"
    return
  done
  echo "No C compiler for $1: ${compilers[0]} is missing" >&2
  echo "apt-get install -y gcc-${1/_/-}-linux-gnu" >&2
  return 1
}

compile() { # arch output: 0 when deno compile made the file within ten minutes
  timeout 600 "${deno[@]}" compile --quiet --no-check "${permissions[@]}" --target "$1-unknown-linux-gnu" \
    --include "$library" --output "$2" "$entry" \
    >"$log" 2>&1 </dev/null
}

selfextract() { # arch output
  "${deno[@]}" run --allow-all src/cli/selfextract/pack.ts --target="$1" --output="$2" --library="$library" \
    --level="$level" \
    "$entry" -- "${permissions[@]}" </dev/null
}

"${deno[@]}" check --quiet "$entry" </dev/null

for arch in "$@"; do
  output=$dist/ginnel-linux-$arch
  rm -f "$output"
  library "$arch"
  if [ "$pack" != selfextract ]; then
    if compile "$arch" "$output"; then
      echo "$output: made by deno compile"
      continue
    fi
    if [ "$pack" = compile ]; then
      cat "$log" >&2
      exit 1
    fi
    echo "deno compile cannot get its runtime here; packing a self-extracting file instead"
    pack=selfextract
  fi
  selfextract "$arch" "$output"
  echo "$output: made as a self-extracting file"
done

[ "${GINNEL_MEASURE:-yes}" != no ] || exit 0

# Sizes and start-up times, each in an empty folder with an empty home and nothing on PATH.
milliseconds() { # home command...: the time one start of `version` takes
  local home=$1 from to
  shift
  from=$(date +%s%N)
  env -i PATH=/nonexistent HOME="$home" "$@" version >/dev/null
  to=$(date +%s%N)
  echo $(((to - from) / 1000000))
}

printf '\n%-32s %10s %14s %14s\n' file MB 'first start' 'next start'
for arch in "$@"; do
  output=$(realpath "$dist")/ginnel-linux-$arch
  command=("$output")
  note=
  if [ "$arch" != "$(uname -m)" ]; then
    emulator=$(command -v "qemu-$arch-static" || true)
    command=("$emulator" -L "/usr/$arch-linux-gnu" "$output")
    note=' (emulated)'
  fi
  size=$(stat -c %s "$output" | awk '{ printf "%.1f", $1 / 1e6 }')
  if [ -z "${command[0]}" ]; then
    printf '%-32s %10s   not started: no qemu-%s-static\n' "ginnel-linux-$arch" "$size" "$arch"
    continue
  fi
  home=$(mktemp -d)
  first=$(cd "$home" && milliseconds "$home" "${command[@]}")
  next=$(cd "$home" && milliseconds "$home" "${command[@]}")
  rm -rf "$home"
  printf '%-32s %10s %11s ms %11s ms%s\n' "ginnel-linux-$arch" "$size" "$first" "$next" "$note"
done
