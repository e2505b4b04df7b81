"""Names of id columns: patients, stays, records, places, sites."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from device_runtime.series.words import TOKENS, fold

# Whose measurements a row holds; the first tier present is the id, the patient before the stay before the record.
Tier = Literal["item", "patient", "generic", "stay", "record", "place"]
_TIERS: Mapping[Tier, str] = MappingProxyType(
    {
        "item": "item unique series ts timeseries",
        "patient": "patient pat pt subject subj person participant proband probanden pid mrn patnr patientnr "
        "patientnummer patienten pznr uniquepid nhsnumber nhs ehr empi mpi user member client animal infant baby "
        "neonate newborn resident usubjid paciente paziente patientin patiënt pasient potilas pacjent pseudonym "
        "personnummer 患者 患者番号 病人 환자 환자번호 пациент",
        "generic": "id uid uuid guid",
        "stay": "stay icustay hadm encounter enc visit visitoccurrence admission adm csn fin case fall fallnr episode "
        "hospitalization hospitalisation patientunitstay patienthealthsystemstay icu account unitstay aufnahme surgery "
        "operation",
        "record": "record rec recording file filename session trial track wdb recname",
        "place": "bed device dev monitor sensor station room machine meter equipment channelgroup serial",
    }
)
_ID_WORDS = ("id", "ids", "no", "nr", "num", "number", "nummer", "numero", "número", "numéro", "codice", "code", "key",
             "hash", "name", "label", "identifier")  # fmt: skip
_TIER_OF: Mapping[str, Tier] = MappingProxyType(
    {word: tier for tier, words in _TIERS.items() for word in words.split()}
)
TIERS: tuple[Tier, ...] = tuple(_TIERS)
_NO_ID = ("itemid", "label", "channelname", "variablename")
_ENDS = ("id", "no", "nr", "number", "nummer")
# What else is numbered: an id of these is none of a patient.
_OTHER_WORDS = (
    "item unit ward site hospital hosp center centre facility provider caregiver careprovider cg nurse doctor "
    "physician staff sample specimen order alarm alert event message msg packet frame row line seq sequence index test "
    "lab drug med medication software version org organization organisation department dept service region country "
    "parameter param variable vital signal channel concept measurement observation obs value type category class "
    "status quality flag error day hour minute step shift mode phase setting"
)
_OTHERS = frozenset(_OTHER_WORDS.split())
_WORDS_IN_ID = ("valid", "fluid", "covid", "grid", "void", "solid", "acid", "rapid", "liquid")
_PLACES = "site center centre hospital hosp clinic facility institution country zentrum klinik"
SITES = frozenset(word + end for word in _PLACES.split() for end in ("", "id", "no", "nr", "code", "name", "number"))
_NUMBERED = frozenset(("id", "ids", "identifier", "nr", "no", "num", "number", "nummer", "numero"))


def id_tier(name: str) -> Tier | None:
    """Return what kind of id a column's name says it is (``Patient_ID``, ``MRN``, ``deviceSerialNo``), or None."""
    whole = fold(name)
    tokens = [token.casefold() for token in TOKENS.findall(name)]
    if whole in _NO_ID and len(tokens) == 1:  # MIMIC's ITEMID says what was measured; Chronos's item_id, whose it is
        return None
    rest = [token for token in tokens if token not in _ID_WORDS]
    joined = "".join(rest)
    for word in (whole, joined, *(whole.removesuffix(end) for end in _ENDS)):
        if word in _TIER_OF:
            return _TIER_OF[word]
    for word, tier in _TIER_OF.items():  # DEVICESERIAL, whose words nothing parts
        if whole.endswith(word) and whole.removesuffix(word) in _TIER_OF:
            return tier
    if not rest and tokens:
        return "generic" if tokens[0] in ("id", "identifier") else None
    # Of several words the last says what it is: study subject id, hospital patient number.
    all_known = all(token in _TIER_OF for token in rest)
    if len(rest) > 1 and (all_known or len(rest) < len(tokens)) and rest[-1] in _TIER_OF:
        return _TIER_OF[rest[-1]]
    return None


def ends_as_an_id(name: str) -> bool:
    """Return whether an unknown name is written like an id's (``RID``, ``horse_id``, ``Kennnummer``).

    It is one only where the table's structure says so too: orders, alarms and sites have ids as well.
    """
    tokens = [token.casefold() for token in TOKENS.findall(name)]
    whole = fold(name)
    if whole.endswith(_WORDS_IN_ID) or whole in SITES or _OTHERS & set(tokens):
        return False
    if {*tokens[:1], *tokens[-1:]} & _NUMBERED:
        return True
    end = next((end for end in ("id", "nummer", "number") if whole.endswith(end)), None)
    return end is not None and whole.removesuffix(end) not in _OTHERS
