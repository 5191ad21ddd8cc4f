"""Tenants by name and by certificate."""

from __future__ import annotations

from gateway.policy.identity.tenant_book import OpenTenantBook, TenantBook
from inference_mesh.config.tenants_file import Tenant

ACME = Tenant(name="acme", certificates=("spiffe://cluster/ns/jobs", "jobs.example"))
BLUE = Tenant(name="blue", certificates=("blue.example",))


def test_only_the_tenants_of_a_file_are_tenants() -> None:
    book = TenantBook([ACME, BLUE])
    assert book.named("acme") is ACME
    assert book.named("Acme") is None
    assert TenantBook().named("acme") is None


def test_without_a_file_every_name_is_a_tenant_with_the_defaults() -> None:
    assert OpenTenantBook().named("acme") == Tenant(name="acme")
    free = OpenTenantBook().named("names of key files are free")
    assert free is not None
    assert free.models == ("*",)


def test_a_certificate_is_a_tenant_by_any_of_its_names_exactly() -> None:
    book = TenantBook([ACME, BLUE])
    assert book.certified(("other", "jobs.example")) is ACME
    assert book.certified(("jobs.example", "spiffe://cluster/ns/jobs")) is ACME
    assert book.certified(("JOBS.EXAMPLE", "*.example", "")) is None
    assert book.certified(()) is None


def test_a_certificate_with_the_names_of_two_tenants_is_neither() -> None:
    assert TenantBook([ACME, BLUE]).certified(("jobs.example", "blue.example")) is None


def test_without_a_file_no_certificate_is_a_tenant() -> None:
    assert OpenTenantBook().certified(("jobs.example",)) is None
    assert not OpenTenantBook().knows_certificates
