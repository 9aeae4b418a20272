#!/usr/bin/env bash
# Fails if a binary needs more than the C library of widespread distributions: glibc 2.34, which RHEL 9, Amazon Linux
# 2023, Ubuntu 22.04, Debian 12 and their successors have.
#
#   .ci/checks/portable.sh BINARY
#
# Needs readelf (Debian: binutils).
set -euo pipefail
binary=$1 allowed=2.34

needed=$(readelf --wide --version-info "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
newest=$(printf '%s\n' "${needed#GLIBC_}" "$allowed" | sort -V | tail -n 1)
[ "$newest" = "$allowed" ] || { echo "$binary needs glibc $newest, later than $allowed" >&2; exit 1; }

libraries=$(readelf --wide --dynamic "$binary" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
for library in $libraries; do
  case $library in
  libc.so.6 | libm.so.6 | libgcc_s.so.1 | ld-linux-*) ;;
  *) echo "$binary needs $library, which a distribution may not have" >&2 && exit 1 ;;
  esac
done
echo "$binary needs glibc ${needed#GLIBC_} and ${libraries//$'\n'/, }"
