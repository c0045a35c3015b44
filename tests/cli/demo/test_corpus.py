from __future__ import annotations

from umbel_cli.demo.corpus import library_folder, module_name, source_files


def test_files_of_the_library_are_found():
    files = source_files()

    assert {"ast.py", "json/decoder.py", "json/__init__.py"} <= set(files)
    assert files == sorted(files)
    assert all((library_folder() / file).is_file() for file in files[:50])


def test_installed_packages_are_left_out():
    assert not any("site-packages" in file or "__pycache__" in file for file in source_files())


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
