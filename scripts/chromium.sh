#!/usr/bin/env bash
# Prints the command of a Chromium browser, for the tests of report.html.
#
#   scripts/chromium.sh
#
# That is $TFQNAS_CHROMIUM, or one on PATH, or else Debian's package: it is unpacked, with the libraries that this
# machine lacks, into the cache directory on first use (100 MB to fetch, two minutes). Nothing is installed, no root.
set -euo pipefail

fail() { echo "chromium: $*" >&2; exit 1; }

if [[ -n "${TFQNAS_CHROMIUM:-}" ]]; then
    command -v "$TFQNAS_CHROMIUM" || fail "TFQNAS_CHROMIUM=$TFQNAS_CHROMIUM is no command"
    exit
fi
for name in chromium chromium-browser google-chrome; do
    if command -v "$name"; then exit; fi
done

cache="${XDG_CACHE_HOME:-$HOME/.cache}/tfqnas"
home="$cache/chromium"
if [[ -x "$home/chromium" ]]; then echo "$home/chromium"; exit; fi
for tool in apt-get dpkg dpkg-deb; do
    command -v "$tool" >/dev/null || fail "expected Debian's $tool, or chromium on PATH"
done
mkdir -p "$cache"
made="$(mktemp -d "$cache/.chromium.XXXXXX")"
trap 'rm -rf "$made"' EXIT
mkdir -p "$made"/{lists,archives}/partial "$made"/{debs,root,fonts}

# Lists of its own: root's may be old, and old versions of a browser leave the registry soon. The status of this
# machine's packages stays, so that the simulated installation names just what is missing.
apt=(apt-get -q -o "Dir::State::lists=$made/lists" -o "Dir::Cache::archives=$made/archives" -o Dir::Cache::pkgcache=
    -o Dir::Cache::srcpkgcache= -o Debug::NoLocking=1 -o APT::Sandbox::User=root -o Acquire::Languages=none)
log="$made/log"
"${apt[@]}" update >"$log" 2>&1 || fail "apt-get update failed: $(tail -n 1 "$log")"
"${apt[@]}" -s --no-install-recommends install chromium fonts-dejavu-core >"$made/plan" 2>"$log" ||
    fail "apt-get cannot resolve the package chromium: $(tail -n 1 "$log")"
# Not the C library: it belongs to the loader of this machine.
mapfile -t packages < <(sed -n 's/^Inst \([^ ]*\) .*/\1/p' "$made/plan" | grep -vE '^(libc6|libc-bin)(:|$)')
(cd "$made/debs" && "${apt[@]}" download "${packages[@]}") >"$log" 2>&1 ||
    fail "apt-get download failed: $(tail -n 1 "$log")"
for package in "$made"/debs/*.deb; do dpkg-deb -x "$package" "$made/root"; done
[[ -x "$made/root/usr/lib/chromium/chromium" ]] || fail "the package chromium holds no browser (on Ubuntu it is a snap)"
rm -r "$made"/{lists,archives,debs,plan,log}

# Some libraries lie in directories of their own, such as pulseaudio's.
libraries="$(find "$made/root" -name 'lib*.so*' -printf "$home/root/%P\n" | xargs -n 1 dirname | sort -u | paste -sd :)"
cat >"$made/chromium" <<END
#!/bin/sh
# Debian's Chromium with the libraries and fonts beside it.
export LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export FONTCONFIG_FILE="$home/fonts/fonts.conf"
exec "$home/root/usr/lib/chromium/chromium" "\$@"
END
chmod +x "$made/chromium"
cat >"$made/fonts/fonts.conf" <<END
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir>$home/root/usr/share/fonts</dir>
  <cachedir>$home/fonts/cache</cachedir>
</fontconfig>
END
chmod 755 "$made"
mv -T "$made" "$home" 2>/dev/null || [[ -x "$home/chromium" ]] || fail "cannot make $home" # another may have been faster
echo "$home/chromium"
