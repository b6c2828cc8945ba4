#!/bin/sh
# Install edgevlm from this folder. Nothing is fetched from a network.
#
#   sh install.sh [--system-site-packages] [VENV]
#
# VENV is the environment to be made; .venv in this folder unless given. On a Jetson
# --system-site-packages lets it see JetPack's own TensorRT. PYTHON names another interpreter.
set -eu

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=${PYTHON:-python3}
system=""
if [ "${1:-}" = "--system-site-packages" ]; then
    system="--system-site-packages"
    shift
fi
venv=${1:-"$here/.venv"}

[ "$(uname -m)" = "@ARCH@" ] || fail "these wheels are for @ARCH@, and this is $(uname -m)"
command -v "$python" >/dev/null || fail "there is no $python"
"$python" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "@PYTHON@")' ||
    fail "these wheels are for Python @PYTHON@, and $python is $("$python" -V 2>&1)"
[ ! -e "$venv" ] || fail "$venv is already there; remove it, or name another folder"
(cd "$here" && sha256sum --check --quiet --strict SHA256SUMS) ||
    fail "a file differs from SHA256SUMS; copy the archive again"

# pip comes from its own wheel, so that Debian's python3-venv is not needed.
# shellcheck disable=SC2086 # empty or one word
"$python" -m venv --without-pip $system "$venv" ||
    fail "$python cannot make an environment"
"$venv/bin/python" "$here/wheels/@PIP@/pip" install --quiet --no-index --no-cache-dir \
    --disable-pip-version-check --find-links "$here/wheels" --require-hashes \
    --requirement "$here/requirements.txt" || fail "pip failed; remove $venv and try again"

"$venv/bin/edgevlm" --version
cat <<DONE
Installed. Next:
  $venv/bin/edgevlm doctor
  $venv/bin/edgevlm verify $here/bundle
  $venv/bin/edgevlm ask $here/bundle PICTURE.jpg 'What is in the picture?'
DONE
