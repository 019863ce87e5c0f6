//! The methods without transactions.

use bytes::Bytes;
use kiva_base::Key;
use kiva_engine::{Cf, Order};
use kiva_kv::raw::{
    BatchGet, BatchScan, Checksum, CompareAndSwap, Delete, DeleteRange, Get, GetTtl, Put, Scan,
    family,
};
use kiva_kv::{Error, Refusal};
use kiva_proto::kvrpcpb::*;

use super::StoreService;

impl StoreService {
    fn family(&self, name: &str) -> Result<Cf, Refusal> {
        family(self.executor.api(), name)
    }

    pub(super) async fn raw_get(&self, request: RawGetRequest) -> Result<RawGetResponse, Error> {
        let target = self.target(&request.context);
        let command = Get { cf: self.family(&request.cf)?, key: request.key.into() };
        let value = self.executor.read(&target, command).await?;
        Ok(RawGetResponse {
            not_found: value.is_none(),
            value: value.unwrap_or_default(),
            ..Default::default()
        })
    }

    pub(super) async fn raw_batch_get(
        &self,
        request: RawBatchGetRequest,
    ) -> Result<RawBatchGetResponse, Error> {
        let target = self.target(&request.context);
        let command = BatchGet { cf: self.family(&request.cf)?, keys: keys(request.keys) };
        let pairs = kv_pairs(self.executor.read(&target, command).await?);
        Ok(RawBatchGetResponse { pairs, ..Default::default() })
    }

    pub(super) async fn raw_get_key_ttl(
        &self,
        request: RawGetKeyTtlRequest,
    ) -> Result<RawGetKeyTtlResponse, Error> {
        let target = self.target(&request.context);
        let command = GetTtl { cf: self.family(&request.cf)?, key: request.key.into() };
        let ttl = self.executor.read(&target, command).await?;
        Ok(RawGetKeyTtlResponse {
            not_found: ttl.is_none(),
            ttl: ttl.unwrap_or_default(),
            ..Default::default()
        })
    }

    pub(super) async fn raw_put(&self, request: RawPutRequest) -> Result<RawPutResponse, Error> {
        let target = self.target(&request.context);
        let pairs = vec![(request.key.into(), request.value)];
        let command = Put::with_ttls(self.family(&request.cf)?, pairs, &[request.ttl])?;
        self.write(&target, command).await?;
        Ok(RawPutResponse::default())
    }

    pub(super) async fn raw_batch_put(
        &self,
        request: RawBatchPutRequest,
    ) -> Result<RawBatchPutResponse, Error> {
        let target = self.target(&request.context);
        let pairs = request.pairs.into_iter().map(|pair| (pair.key.into(), pair.value)).collect();
        let command = Put::with_ttls(self.family(&request.cf)?, pairs, &request.ttls)?;
        self.write(&target, command).await?;
        Ok(RawBatchPutResponse::default())
    }

    pub(super) async fn raw_delete(
        &self,
        request: RawDeleteRequest,
    ) -> Result<RawDeleteResponse, Error> {
        let target = self.target(&request.context);
        let command = Delete { cf: self.family(&request.cf)?, keys: vec![request.key.into()] };
        self.write(&target, command).await?;
        Ok(RawDeleteResponse::default())
    }

    pub(super) async fn raw_batch_delete(
        &self,
        request: RawBatchDeleteRequest,
    ) -> Result<RawBatchDeleteResponse, Error> {
        let target = self.target(&request.context);
        let command = Delete { cf: self.family(&request.cf)?, keys: keys(request.keys) };
        self.write(&target, command).await?;
        Ok(RawBatchDeleteResponse::default())
    }

    pub(super) async fn raw_delete_range(
        &self,
        request: RawDeleteRangeRequest,
    ) -> Result<RawDeleteRangeResponse, Error> {
        let target = self.target(&request.context);
        let command = DeleteRange {
            cf: self.family(&request.cf)?,
            start: request.start_key.into(),
            end: request.end_key.into(),
        };
        self.executor.delete_range(&target, command).await?;
        Ok(RawDeleteRangeResponse::default())
    }

    pub(super) async fn raw_scan(&self, request: RawScanRequest) -> Result<RawScanResponse, Error> {
        let target = self.target(&request.context);
        let command = Scan {
            cf: self.family(&request.cf)?,
            start: request.start_key.into(),
            end: request.end_key.into(),
            limit: request.limit as usize,
            key_only: request.key_only,
            order: order(request.reverse),
        };
        let kvs = kv_pairs(self.executor.read(&target, command).await?);
        Ok(RawScanResponse { kvs, ..Default::default() })
    }

    pub(super) async fn raw_batch_scan(
        &self,
        request: RawBatchScanRequest,
    ) -> Result<RawBatchScanResponse, Error> {
        let target = self.target(&request.context);
        let command = BatchScan {
            cf: self.family(&request.cf)?,
            ranges: ranges(request.ranges),
            limit: request.each_limit as usize,
            key_only: request.key_only,
            order: order(request.reverse),
        };
        let kvs = kv_pairs(self.executor.read(&target, command).await?);
        Ok(RawBatchScanResponse { kvs, ..Default::default() })
    }

    pub(super) async fn raw_compare_and_swap(
        &self,
        request: RawCasRequest,
    ) -> Result<RawCasResponse, Error> {
        let target = self.target(&request.context);
        let command = CompareAndSwap {
            cf: self.family(&request.cf)?,
            key: request.key.into(),
            expected: (!request.previous_not_exist).then_some(request.previous_value),
            value: request.value,
            ttl_s: request.ttl,
        };
        let reply = self.write(&target, command).await?;
        Ok(RawCasResponse {
            succeed: reply.succeeded,
            previous_not_exist: reply.previous.is_none(),
            previous_value: reply.previous.unwrap_or_default(),
            ..Default::default()
        })
    }

    pub(super) async fn raw_checksum(
        &self,
        request: RawChecksumRequest,
    ) -> Result<RawChecksumResponse, Error> {
        let target = self.target(&request.context);
        let command = Checksum { algorithm: request.algorithm, ranges: ranges(request.ranges) };
        let reply = self.executor.read(&target, command).await?;
        Ok(RawChecksumResponse {
            checksum: reply.checksum,
            total_kvs: reply.count,
            total_bytes: reply.size,
            ..Default::default()
        })
    }

    pub(super) async fn raw_coprocessor(
        &self,
        _request: RawCoprocessorRequest,
    ) -> Result<RawCoprocessorResponse, Error> {
        Err(Refusal::NoPlugin)?
    }

    pub(super) async fn unsafe_destroy_range(
        &self,
        request: UnsafeDestroyRangeRequest,
    ) -> Result<UnsafeDestroyRangeResponse, Error> {
        let (start, end) = (request.start_key.into(), request.end_key.into());
        self.executor.destroy_range(&start, &end).await?;
        Ok(UnsafeDestroyRangeResponse::default())
    }
}

fn order(reverse: bool) -> Order {
    if reverse { Order::Reverse } else { Order::Forward }
}

fn keys(keys: Vec<Bytes>) -> Vec<Key> {
    keys.into_iter().map(Key).collect()
}

fn ranges(ranges: Vec<KeyRange>) -> Vec<(Key, Key)> {
    ranges.into_iter().map(|range| (range.start_key.into(), range.end_key.into())).collect()
}

fn kv_pairs(pairs: Vec<(Key, Bytes)>) -> Vec<KvPair> {
    pairs.into_iter().map(|(Key(key), value)| KvPair { key, value, ..Default::default() }).collect()
}
