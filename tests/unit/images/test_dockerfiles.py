"""What every image has in common: no root, locked, from a mirror, described, and nothing that only one builder understands."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from image_steps import ROOT, instructions, stages

IMAGES = {path.parent.name: path for path in sorted((ROOT / "images").glob("*/Dockerfile"))}
UNPINNED_APT = "DL3008"
"""Versions of Debian's packages go with the base image, whose digest a site names."""
SPLIT_RUN = "DL3059"
"""Steps are cut where a change would make the expensive one run again."""
LABELS = ("title", "description", "version", "revision", "source")


def test_these_images_there_are() -> None:
    assert set(IMAGES) == {"airflow", "edge", "jobs", "train"}


@pytest.mark.parametrize("path", IMAGES.values(), ids=IMAGES)
class TestEveryImage:
    def test_hadolint_finds_nothing(self, path: Path) -> None:
        linter = Path(sys.executable).with_name("hadolint")
        command = [linter, "--format", "json", "--ignore", UNPINNED_APT, "--ignore", SPLIT_RUN, path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert json.loads(done.stdout) == []

    def test_it_is_built_in_stages_on_a_base_that_is_named_from_outside(self, path: Path) -> None:
        found = stages(path)
        assert len(found) == 2
        assert [stage[0] for stage in found] == [("FROM", "${BASE_IMAGE} AS build"), ("FROM", "${BASE_IMAGE}")]
        base = next(rest for word, rest in instructions(path) if word == "ARG" and rest.startswith("BASE_IMAGE="))
        assert not base.endswith(":latest")
        assert ":" in base

    def test_it_runs_as_nobody_of_importance(self, path: Path) -> None:
        final = stages(path)[-1]
        (user,) = [rest for word, rest in final if word == "USER"]
        assert user == ("50000" if path.parent.name == "airflow" else "10001")
        words = [word for word, _ in final]
        assert "RUN" not in words[words.index("USER") :]

    def test_packages_are_locked_by_hash_but_for_torch(self, path: Path) -> None:
        commands = re.findall(r"pip install [^&]*", "\n".join(rest for word, rest in instructions(path) if word == "RUN"))
        assert commands
        for command in commands:
            is_ours = "--no-deps --no-build-isolation /build/jobs" in command
            is_torch = "--no-deps -r /build/train/requirements-torch.txt" in command
            assert is_ours or is_torch or "--require-hashes" in command, command

    def test_no_package_may_come_from_either_of_two_indexes(self, path: Path) -> None:
        scripts = [path, *path.parent.glob("*.sh")]
        assert not [one for one in scripts if "extra-index-url" in one.read_text()]

    def test_it_comes_from_any_index(self, path: Path) -> None:
        assert any(word == "ARG" and rest.startswith("PIP_INDEX_URL=https://pypi.org/simple") for word, rest in stages(path)[0])

    def test_it_is_described(self, path: Path) -> None:
        label = " ".join(rest for word, rest in stages(path)[-1] if word == "LABEL")
        assert all(f"org.opencontainers.image.{name}=" in label for name in LABELS)

    def test_it_has_a_bill_of_materials(self, path: Path) -> None:
        runs = " ".join(rest for word, rest in stages(path)[0] if word == "RUN")
        assert "cyclonedx-py environment" in runs
        assert "/opt/scanloop/bom.cdx.json" in runs

    def test_what_is_copied_is_there_and_reaches_the_builder(self, path: Path) -> None:
        allowed = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
        for word, rest in instructions(path):
            if word != "COPY" or "--from=" in rest:
                continue
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == one or source.startswith(f"{one}/") or fnmatch.fnmatch(source, one) for one in allowed), source

    def test_any_builder_understands_it(self, path: Path) -> None:
        text = path.read_text()
        assert "<<" not in text
        assert not re.search(r"^(ADD|RUN --|COPY --(link|parents|exclude))", text, re.MULTILINE)
        assert not text.startswith("# syntax=")

    def test_nothing_of_ours_is_named(self, path: Path) -> None:
        hosts = set(re.findall(r"https?://([^/\s\"]+)", path.read_text()))
        assert hosts <= {"pypi.org"}


def test_shell_scripts_stop_at_the_first_mistake() -> None:
    for script in (ROOT / "images").rglob("*.sh"):
        assert "set -eu" in script.read_text(), script
        subprocess.run(["sh", "-n", script], check=True)


@pytest.mark.parametrize(("variant", "words"), [("gpu", "VARIANT is cuda or cpu"), ("", "VARIANT is cuda or cpu")])
def test_a_variant_that_there_is_not_is_said(variant: str, words: str) -> None:
    script = ROOT / "images" / "train" / "compile_operators.sh"
    done = subprocess.run(["sh", script], env={"VARIANT": variant, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert words in done.stderr


def test_torch_is_the_only_package_of_its_lock() -> None:
    lines = (ROOT / "images" / "train" / "requirements-torch.txt").read_text().split()
    assert [line.partition("==")[0] for line in lines] == ["torch"]


def test_the_compiler_is_of_the_cuda_version_whose_libraries_are_locked() -> None:
    train = ROOT / "images" / "train"
    libraries, compiler = (
        dict(re.findall(r"^([a-z0-9-]+)==([0-9.]+)", (train / f"requirements-{name}.txt").read_text(), re.MULTILINE))
        for name in ("cuda", "nvcc")
    )
    assert libraries["nvidia-cuda-runtime"] == compiler["nvidia-cuda-runtime"]
    version = libraries["nvidia-cuda-runtime"].rpartition(".")[0]
    assert {compiler[name].rpartition(".")[0] for name in ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm")} == {version}


class TestCheckOfTorch:
    """It tells a build that the locks do not fit."""

    SCRIPT = ROOT / "images" / "train" / "check_torch.py"

    def _run(self, variant: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin"} | ({"PYTHONPATH": str(path)} if path else {})
        return subprocess.run([sys.executable, self.SCRIPT, variant], env=environment, capture_output=True, text=True, check=False)

    @staticmethod
    def _torch(folder: Path, cuda: str | None, *requirements: str) -> Path:
        """A torch that says what it was built for and what it needs, found before the installed one."""
        (folder / "torch").mkdir()
        (folder / "torch" / "__init__.py").write_text(f"class version:\n    cuda = {cuda!r}\n__version__ = '9.9'\n")
        (folder / "torch-9.9.dist-info").mkdir()
        lines = ["Metadata-Version: 2.1", "Name: torch", "Version: 9.9", *(f"Requires-Dist: {one}" for one in requirements)]
        (folder / "torch-9.9.dist-info" / "METADATA").write_text("\n".join(lines) + "\n")
        return folder

    def test_what_is_installed_here_fits(self) -> None:
        import torch

        done = self._run("cuda" if torch.version.cuda else "cpu")
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize(("cuda", "variant"), [(None, "cuda"), ("13.0", "cpu"), ("13.0", "gpu")])
    def test_the_other_kind_is_refused(self, tmp_path: Path, cuda: str | None, variant: str) -> None:
        done = self._run(variant, self._torch(tmp_path, cuda))
        assert done.returncode == 64
        assert "VARIANT" in done.stderr

    @pytest.mark.parametrize(
        ("requirement", "said"),
        [("no-such-library==1", "which is not locked"), ("numpy==0.1", "is locked"), ("numpy; python_version < '3'", "")],
    )
    def test_what_is_missing_is_named(self, tmp_path: Path, requirement: str, said: str) -> None:
        done = self._run("cpu", self._torch(tmp_path, None, requirement))
        assert (done.returncode, said in done.stderr) == (64 if said else 0, True)


class TestInstallCompiler:
    """Debian's packages, from the site's mirror, and only those that the base image lacks."""

    def _run(self, folder: Path, headers: bool, mirror: str = "") -> tuple[int, str]:
        (folder / "include").mkdir()
        if headers:
            (folder / "include" / "Python.h").touch()
        for name, text in {"python": f"echo {folder}/include", "apt-get": f'echo "$*" >> {folder}/asked', "rm": ":"}.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
        environment = {"PATH": f"{folder}:/usr/bin:/bin", "DEBIAN_MIRROR": mirror}
        command = ["sh", ROOT / "images" / "train" / "install_compiler.sh"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        asked = folder / "asked"
        return done.returncode, asked.read_text() if asked.exists() else ""

    def test_nothing_is_fetched_where_all_is_there(self, tmp_path: Path) -> None:
        assert self._run(tmp_path, headers=True) == (0, "")

    def test_headers_that_do_not_come_are_said(self, tmp_path: Path) -> None:
        code, asked = self._run(tmp_path, headers=False)
        assert code == 64
        assert "python3-dev" in asked
        assert "g++" not in asked


class TestAirflowsEntrypoint:
    def _run(self, folder: Path, *words: str) -> str:
        (folder / "airflow").write_text('#!/bin/sh\necho "airflow $*"\n')
        (folder / "airflow").chmod(0o755)
        command = ["sh", ROOT / "images" / "airflow" / "entrypoint.sh", *words]
        return subprocess.run(command, env={"PATH": f"{folder}:/usr/bin:/bin"}, capture_output=True, text=True, check=True).stdout.strip()

    def test_a_program_is_run(self, tmp_path: Path) -> None:
        assert self._run(tmp_path, "sh", "-c", "exec airflow scheduler") == "airflow scheduler"

    def test_airflows_own_words_are_given_to_it(self, tmp_path: Path) -> None:
        assert self._run(tmp_path, "db", "migrate") == "airflow db migrate"
