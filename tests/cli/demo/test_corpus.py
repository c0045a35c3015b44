from __future__ import annotations

from umbel_cli.demo.corpus import PACKAGES, library_folder, module_name, source_files, source_path


def test_files_of_the_library_are_found():
    files = source_files()

    assert {"ast.py", "json/decoder.py", "json/__init__.py"} <= set(files)
    assert files == sorted(files)
    assert all((library_folder() / file).is_file() for file in files[:50])


def test_installed_packages_are_left_out_of_a_full_library():
    files = source_files(few=0)

    assert not any("site-packages" in file or "__pycache__" in file for file in files)


def test_installed_packages_fill_up_a_small_library():
    files = source_files(few=10**6)
    packages = [file for file in files if file.startswith(PACKAGES)]

    if len(source_files(few=0)) < 1500:
        assert f"{PACKAGES}click/core.py" in packages or len(files) == 1500
    assert all(source_path(file).is_file() for file in packages)


def test_limit_spreads_over_the_library():
    files = source_files()
    some = source_files(limit=10)

    assert len(some) == 10
    assert set(some) <= set(files)
    assert some[-1] > files[len(files) // 2]


def test_limit_above_the_number_of_files_takes_all():
    assert source_files(limit=10**6) == source_files()


def test_modules_are_named_as_they_are_imported():
    assert module_name("json/decoder.py") == "json.decoder"
    assert module_name("json/__init__.py") == "json"
    assert module_name(f"{PACKAGES}click/core.py") == "click.core"
